"""The pictures of runs whose samples are not images: points, numbers and signals."""

import hashlib
import io
import shutil

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

import ggf_cli
from command import ggf, read_log
from ggf_cli import VPSDE, ScoreModel
from ggf_cli.errors import OutputError, UsageError
from ggf_cli.runs import plots
from ggf_cli.runs.pictures import MAX_POINTS, picture_of, pictured
from observers import Interrupt
from program import job

SETTINGS = {"solver": "em", "steps": 4, "batch_size": 4}
SHAPES = {(2,): "scatter", (1,): "histogram", (16,): "lines", (1, 16): "lines", (3, 16): "lines"}
TEXT = {"ggf": "ggf sample"}
SOURCE = """
import ggf_cli
model = ggf_cli.ScoreModel(
    score=lambda x, t: -x, sde=ggf_cli.VPSDE(), shape={shape}, data_range=None
)
"""


def model_of(shape, data_range=None):
    score = lambda x, t: -x
    return ScoreModel(score=score, sde=VPSDE(), shape=shape, data_range=data_range)


def is_blank(content):
    with Image.open(io.BytesIO(content)) as image:
        return len(image.convert("L").getcolors(256) or ()) < 3


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, in order; their files are empty."""
    drawn = []
    monkeypatch.setattr(plots, "png_of", lambda figure, _: drawn.append(figure) or b"")
    return drawn


@pytest.mark.parametrize(
    ("shape", "images", "picture"),
    [
        *((shape, images, picture) for shape, picture in SHAPES.items() for images in (0, 1)),
        ((3, 8, 8), True, "grid"),
        ((1, 8, 8), True, "grid"),
        ((1, 8, 8), False, None),
        ((4, 8, 8), True, None),
        ((1, 4, 4, 4), False, None),
        ((16, 16), False, "lines"),
        ((17, 16), False, None),
        ((2, 2), False, None),
        ((1, 1), False, None),
    ],
)
def test_the_shape_decides_about_the_picture(shape, images, picture):
    assert picture_of(shape, bool(images)) == picture


def test_a_picture_has_the_samples_of_the_grid_and_many_points():
    indices = range(5, 5 + 2 * MAX_POINTS)
    assert pictured("lines", indices, (2, 3)) == pictured("grid", indices, (2, 3)) == range(5, 11)
    assert pictured("scatter", indices, (2, 3)) == range(5, 5 + MAX_POINTS)
    assert not pictured("scatter", indices, None)
    assert not pictured(None, indices, (2, 3))


# --- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["npz", "none"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_run_has_a_picture(tmp_path, shape, format):
    model = model_of(shape, data_range=(-1, 1) if format == "npz" else None)
    folder = tmp_path / "a"
    log = ggf_cli.run(model, 6, out=folder, format=format, **SETTINGS).log
    content = (folder / "samples.png").read_bytes()
    listed = {file.path: file.sha256 for file in log.files}
    assert listed["samples.png"] == hashlib.sha256(content).hexdigest()
    assert "grid.png" not in listed
    assert not (folder / ".parts").exists()
    with Image.open(io.BytesIO(content)) as image:
        assert image.text == {"ggf": log.command, "ggf-version": ggf_cli.__version__}
    assert not is_blank(content)
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False}):
        ggf_cli.run(model, 6, out=tmp_path / "b", format=format, **SETTINGS)
    assert (tmp_path / "b/samples.png").read_bytes() == content


@pytest.mark.parametrize("shape", [(1, 4, 4, 4), (1, 8, 8), (20, 8)])
def test_other_samples_have_no_picture(tmp_path, shape):
    log = ggf_cli.run(model_of(shape), 3, out=tmp_path, format="npz", **SETTINGS).log
    assert [file.path for file in log.files] == ["samples.npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json", "samples.npz"]


@pytest.mark.parametrize("format", ["npz", "none"])
@pytest.mark.parametrize("shape", [(2,), (8,)])
def test_a_resumed_run_has_the_same_picture(tmp_path, small_files, shape, format):
    model = model_of(shape)
    settings = {**SETTINGS, "format": format, "grid": (3, 4)}
    ggf_cli.run(model, 20, out=tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        ggf_cli.run(model, 20, out=tmp_path / "part", observer=Interrupt(6), **settings)
    whole = (tmp_path / "whole/samples.png").read_bytes()
    assert (tmp_path / "part/samples.png").read_bytes() != whole
    ggf_cli.run(model, 20, out=tmp_path / "part", resume=True, **settings)
    assert (tmp_path / "part/samples.png").read_bytes() == whole


def test_the_picture_of_a_replaced_run_is_removed(tmp_path):
    settings = {**SETTINGS, "out": tmp_path, "format": "none"}
    with pytest.raises(KeyboardInterrupt):
        ggf_cli.run(model_of((2,)), 20, observer=Interrupt(6), **settings)
    (tmp_path / "run.json").unlink()
    assert (tmp_path / "samples.png").exists()
    ggf_cli.run(model_of((1, 4, 4, 4)), 2, force=True, **settings)
    assert not (tmp_path / "samples.png").exists()


def test_samples_that_did_not_finish_are_left_out(tmp_path, figures):
    def score(x, t):
        return torch.where((x[:, :1] < 0) & (t < 0.1)[:, None], torch.nan, -x)

    model = ScoreModel(score=score, sde=VPSDE(), shape=(2,), data_range=None)
    with pytest.raises(ggf_cli.GGFError, match="met a score"):
        ggf_cli.run(model, 30, out=tmp_path, format="none", **SETTINGS)
    done = sum(sample["status"] == "done" for sample in read_log(tmp_path)["samples"])
    assert 0 < done < 30
    [axes] = figures[0].axes
    assert len(axes.lines[0].get_xdata()) == done


def test_a_run_without_any_finished_sample_has_no_picture(tmp_path):
    model = ScoreModel(score=lambda x, t: x * torch.nan, sde=VPSDE(), shape=(2,), data_range=None)
    with pytest.raises(ggf_cli.GGFError, match="3 of 3"):
        ggf_cli.run(model, 3, out=tmp_path, format="none", **SETTINGS)
    assert not (tmp_path / "samples.png").exists()


def test_more_plots_than_can_be_read_are_refused(tmp_path):
    with pytest.raises(UsageError, match="more than 256 plots of signals"):
        ggf_cli.run(model_of((8,)), 3, out=tmp_path, format="npz", grid=(20, 20), **SETTINGS)
    ggf_cli.run(model_of((2,)), 3, out=tmp_path, format="npz", grid=(20, 20), **SETTINGS)


# --- panels ---------------------------------------------------------------------------------------


def test_each_signal_has_a_panel_with_its_index(figures):
    signals = {i: np.sin(np.arange(24.0) + i).reshape(2, 12) for i in (3, 4, 6, 7)}
    plots.lines(signals, [3, 4, None, 6, 7], 3, TEXT)
    [figure] = figures
    assert [axes.get_title("left") for axes in figure.axes] == ["sample 3", "4", "6", "7"]
    assert [len(axes.lines) for axes in figure.axes] == [2] * 4
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["channel 0", "channel 1"]
    # The second panel of the first row has none below it that is to its right.
    labelled = [axes.xaxis.get_tick_params()["labelbottom"] for axes in figure.axes]
    assert labelled == [False, False, True, True]


def test_a_picture_has_no_more_rows_and_columns_than_samples(figures):
    plots.lines({0: np.arange(5.0)}, [0], 8, TEXT)
    assert figures[0].axes[0].get_gridspec().get_geometry() == (1, 1)


def test_a_long_signal_keeps_its_extremes(figures):
    signal = np.zeros(1_000_003)
    signal[[17, 999_999]] = 5, -7
    plots.lines({0: signal}, [0], 1, TEXT)
    position, values = figures[0].axes[0].lines[0].get_data()
    assert len(values) < 3000
    assert (values.min(), values.max()) == (-7, 5)
    assert abs(position[values.argmax()] - 17) < 1100


def test_all_points_are_in_the_axes_which_have_one_scale(figures):
    points = np.array([[0.0, 0.0], [10.0, 1.0], [4.0, -1.0]])
    plots.scatter(points, TEXT)
    [axes] = figures[0].axes
    (x, y), drawn = axes.dataLim.get_points().T, axes.lines[0].get_xydata()
    np.testing.assert_array_equal(drawn, points)
    limits = axes.get_xlim(), axes.get_ylim()
    for (low, high), data in zip(limits, (x, y), strict=True):
        assert low < data[0] < data[1] < high
    assert np.ptp(limits[0]) == pytest.approx(np.ptp(limits[1]))


EXTREMES = {
    "equal": [0.25] * 6,
    "zero": [0.0] * 6,
    "tiny": [1e-40, 0, 0, 0, 0, -1e-45],
    "large": [1e9, 1e9 + 1, 1e9, 1e9, 1e9, 1e9],
    "largest": [3e38, -3e38, 0, 0, 0, 1],
    "beyond float32": [1e308, -1e308, 0, 0, 0, 1],
}


@pytest.mark.parametrize("values", EXTREMES.values(), ids=EXTREMES)
def test_any_finite_numbers_can_be_drawn(values):
    values = np.array(values)
    for content in (
        plots.scatter(values.reshape(3, 2), TEXT),
        plots.histogram(values.reshape(6, 1), TEXT),
        plots.lines({0: values, 1: -values}, [0, 1], 2, TEXT),
    ):
        assert not is_blank(content)


# --- the command line -----------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE.format(shape="(2,)"))
    return f"{path}:model"


def test_show_finds_the_run_of_a_picture(tmp_path, source, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["sample", "--model", source, "--n", "9", "--format", "npz", "--steps", "3"]
    done = ggf(*words, "--solver", "em", "--out", "run")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "run/samples.png"
    shown = ggf("show", "run/samples.png")
    assert shown.exit_code == 0, shown.output
    assert ggf("show", "run", "--check").stdout == "2 of 2 files intact\n"
    alone = ggf("show", shutil.copy("run/samples.png", "alone.png"))
    assert alone.stdout.splitlines()[-1] == read_log(tmp_path / "run")["command"]
    again = ggf("show", "run/samples.png", "--repeat", "--allow-code", "--out", "again")
    assert "2 of the 2 files are identical" in again.stderr
    (tmp_path / "run/run.json").write_text("{")
    assert "ggf show run/samples.png prints the command" in ggf("show", "run").stderr


@pytest.mark.parametrize("kind", ["npz", "none"])
def test_the_picture_does_not_depend_on_the_number_of_processes(tmp_path, source, kind):
    words = ["sample", "--model", source, "--n", "40", "--solver", "em", "--steps", "5"]
    words += ["--batch-size", "4", "--format", kind]
    assert ggf(*words, "--out", tmp_path / "one").exit_code == 0
    programs = job(2, [*words, "--out", tmp_path / "two"], tmp_path / "log")
    assert [p.wait() for p in programs] == [0, 0], [p.stderr for p in programs]
    whole = (tmp_path / "one/samples.png").read_bytes()
    assert (tmp_path / "two/samples.png").read_bytes() == whole


def test_an_error_of_matplotlib_does_not_cost_the_log(tmp_path, monkeypatch):
    def broken(figure, text):
        raise RuntimeError("no font")

    monkeypatch.setattr(plots, "png_of", broken)
    with pytest.raises(OutputError, match="cannot plot the samples: no font"):
        ggf_cli.run(model_of((2,)), 3, out=tmp_path, format="npz", **SETTINGS)
    assert read_log(tmp_path)["status"] == "failed"
    monkeypatch.undo()
    again = ggf_cli.run(model_of((2,)), 3, out=tmp_path, format="npz", resume=True, **SETTINGS)
    assert again.log.status == "completed"
    assert (tmp_path / "samples.png").exists()
