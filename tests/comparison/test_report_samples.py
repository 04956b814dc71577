"""The figure of samples of a comparison whose samples are points, numbers or signals."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import comparisons
import ggf_cli
from command import read_comparison
from ggf_cli import VPSDE, ScoreModel
from ggf_cli.comparison.repeat import PICTURED, make_repeat
from ggf_cli.comparison.report import samples as module
from ggf_cli.comparison.report.html import CAPTIONS
from ggf_cli.comparison.report.rows import ordered
from ggf_cli.comparison.report.samples import samples
from ggf_cli.documents import convert, decode_json
from ggf_cli.runs.documents import RunLog
from ggf_cli.runs.load_samples import load_samples

SETTINGS = {"eps_rel": (0.5,), "nfe": (5,), "batch_size": 50, "metrics": ["energy"]}


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, in order; their files are empty."""
    drawn = []
    monkeypatch.setattr(module, "to_png", lambda figure, _: drawn.append(figure) or b"")
    return drawn


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cells_of(document):
    return [cell for cell in ordered(document) if cell["status"] == "done"]


def pictures_of(document, *shape):
    return {cell["id"]: normal(*shape, seed=i) for i, cell in enumerate(cells_of(document))}


@pytest.mark.parametrize("shape", [(2,), (1,), (12,), (2, 12)])
def test_the_report_shows_samples_that_are_not_images(tmp_path, shape):
    reference = tmp_path / "real.npz"
    np.savez(reference, x=normal(100, *shape).numpy())
    model = ScoreModel(score=lambda x, t: -x, sde=VPSDE(), shape=shape, data_range=None)
    out = tmp_path / "out"
    ggf_cli.compare(model, ["em", "adaptive"], out=out, n=40, reference=reference, **SETTINGS)
    document = read_comparison(out)
    names = {file["path"] for file in document["files"]}
    assert "samples.png" in names
    assert "grids.png" not in names
    with Image.open(out / "samples.png") as image:
        assert image.text["ggf"] == document["command"]
        assert len(image.convert("L").getcolors(256)) > 2
    assert CAPTIONS["samples.png"][1] in (out / "report.html").read_text()
    before = (out / "samples.png").read_bytes()
    ggf_cli.compare(model, ["em", "adaptive"], out=out, n=40, reference=reference, **SETTINGS)
    assert (out / "samples.png").read_bytes() == before


@pytest.mark.parametrize(("size", "label"), [(2, "x₂"), (1, "density")])
def test_points_have_a_panel_a_cell_and_the_same_axes(figures, size, label):
    document = comparisons.fashion()
    samples(document, pictures_of(document, 50, size), 2 * normal(80, size))
    panels = figures[0].axes
    labels = [cell["label"] for cell in cells_of(document)]
    assert [axes.get_title("left") for axes in panels] == ["reference", *labels]
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in panels}) == 1
    assert panels[0].get_ylabel() == label
    samples(document, pictures_of(document, 50, size))
    assert [axes.get_title("left") for axes in figures[1].axes] == labels


def test_a_cell_that_fails_does_not_decide_about_the_axes(figures):
    document = comparisons.fashion()
    pictures = pictures_of(document, 50, 2)
    first = cells_of(document)[0]["id"]
    pictures[first] = 1e6 * pictures[first]
    samples(document, pictures)
    axes = figures[0].axes[0]
    assert np.abs(axes.get_xlim()).max() < 10
    assert [text.get_text() for text in axes.texts if "outside" in text.get_text()] == [
        "50 outside"
    ]


def test_signals_have_a_row_a_cell_and_a_column_an_index(figures):
    document = comparisons.fashion()
    pictures = pictures_of(document, 3, 12)
    pictures[cells_of(document)[1]["id"]][0] = torch.nan
    samples(document, pictures, normal(3, 12))
    panels, count = figures[0].axes, len(pictures)
    assert len(panels) == 3 * (1 + count)
    assert [axes.get_title("left") for axes in panels[3:6]] == ["sample 0 of seed 0", "1", "2"]
    assert not any(axes.get_title("left") for axes in panels[6:])
    assert len({axes.get_ylim() for axes in panels}) == 1
    texts = [text.get_text() for text in figures[0].texts]
    assert {"reference", "position"} <= set(texts)


def test_samples_of_other_shapes_have_no_plot():
    document = comparisons.fashion()
    for shape in [(2, 1, 8, 8), (2, 1, 4, 4, 4), (0, 2), (2, 40, 40)]:
        assert samples(document, pictures_of(document, *shape)) is None
    assert samples(document, {}, normal(3, 2)) is None
    lost = {name: torch.full((2, 8), torch.nan) for name in pictures_of(document, 1, 8)}
    assert samples(document, lost) is None


def test_many_cells_fit_into_a_figure(monkeypatch, figures):
    monkeypatch.setattr(module, "_MAX_CELLS", 8)
    document = comparisons.fashion()
    first = document["cells"][0]
    document["cells"] = [{**first, "id": str(i), "matches": None} for i in range(400)]
    samples(document, {str(i): normal(1, 8) for i in range(400)})
    assert len(figures[0].axes) == 8


@pytest.mark.parametrize("shape", [(40, 2), (3, 1), (3, 12)])
def test_hostile_labels_are_text(shape):
    document = comparisons.fashion()
    for cell in document["cells"]:
        cell.update(label="$x_{$ <script> [bold] \x1b[31m {{ 7 * 7 }}" * 3)
    assert Image.open(io.BytesIO(samples(document, pictures_of(document, *shape)))).width > 500


def test_a_column_keeps_its_index_when_a_signal_is_lost(tmp_path):
    def score(x, t):
        return torch.where((x[:, :1] < 0) & (t < 0.1)[:, None], torch.nan, -x)

    model = ScoreModel(score=score, sde=VPSDE(), shape=(8,), data_range=None)
    settings = {"solver": "em", "steps": 3, "format": "npz", "batch_size": 8, "seed": 1}
    with pytest.raises(ggf_cli.GGFError):
        ggf_cli.run(model, range(8, 16), out=tmp_path, **settings)
    log = convert(decode_json((tmp_path / "run.json").read_bytes()), RunLog)
    drawn = load_samples(tmp_path, log.files)
    pictures = make_repeat("run", log, drawn).pictures
    done = [sample.status == "done" for sample in log.samples][: PICTURED["lines"]]
    assert 0 < sum(done) < len(done)
    assert (~pictures.isnan().any(dim=1)).tolist() == done
    assert torch.equal(pictures[done], torch.from_numpy(drawn.images)[: sum(done)])
