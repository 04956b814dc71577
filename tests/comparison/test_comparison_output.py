"""The outputs of a comparison: table, CSV, plots and report, for realistic and extreme cases."""

import copy
import csv
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import jsonschema
import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import comparisons
from command import COMPARE_SCHEMA
from ggf_cli.comparison import documents
from ggf_cli.comparison.documents import CompareLog
from ggf_cli.comparison.report import distributions, quality, table, write_outputs
from ggf_cli.comparison.report.csv_export import csv_text
from ggf_cli.comparison.report.distributions import nfe_histogram, step_sizes
from ggf_cli.comparison.report.grids import grids
from ggf_cli.comparison.report.html import CAPTIONS, report
from ggf_cli.comparison.report.quality import quality_vs_nfe
from ggf_cli.comparison.report.rows import columns, ordered, rows
from ggf_cli.documents import json_schema, violation
from ggf_cli.errors import OutputError

VALIDATOR = jsonschema.Draft202012Validator(
    COMPARE_SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)
PLOTS = (quality_vs_nfe, nfe_histogram, step_sizes)
HOSTILE = "<script>alert(1)</script> \"'><img src=x onerror=x> $x_{$ [bold] \x1b[31m {{ 7 * 7 }}"


@pytest.fixture(params=comparisons.ALL)
def comparison(request):
    return comparisons.ALL[request.param]()


def hostile():
    """A comparison in which every untrusted text is an attack."""
    document = comparisons.fashion()
    document["model"].update(name=HOSTILE, source=HOSTILE, summary=HOSTILE)
    document.update(device=HOSTILE, notes=[HOSTILE], findings=[HOSTILE], command=HOSTILE)
    document["recommendation"]["text"] = HOSTILE
    document["metrics"][0].update(title=HOSTILE, summary=HOSTILE, notes=[HOSTILE])
    document["metrics"][0]["floor"]["what"] = HOSTILE
    document["versions"] = {"ggf-cli": HOSTILE, HOSTILE: HOSTILE}
    for cell in document["cells"]:
        cell.update(label=HOSTILE, command=HOSTILE, error=cell["error"] and HOSTILE)
    return document


# --- schema --------------------------------------------------------------------------------------


def test_all_example_comparisons_are_valid(comparison):
    VALIDATOR.validate(comparison)
    assert violation(comparison, CompareLog) is None


def test_the_schema_is_generated_from_the_types_that_are_checked():
    assert json_schema(CompareLog, documents.COMPARE_SCHEMA) == COMPARE_SCHEMA
    definitions = COMPARE_SCHEMA["$defs"]
    for name, definition in definitions.items():
        # An SDE has parameters of its own.
        assert name == "SDESettings" or definition["additionalProperties"] is False
    optional = {"runs", "pieces", "config", "code", "assumptions", "images"}
    optional |= {"weights", "conditions", "guidance", "interval"}
    optional |= {"margin", "statements", "statement", "indistinguishable", "excess", "dimensions"}
    optional |= {"time", "threads", "costs"}
    for definition in definitions.values():
        assert set(definition["properties"]) - set(definition["required"]) <= optional


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.update(status="failed"),
        lambda d: d.update(metrics=[{}]),
        lambda d: d.update(n=0),
        lambda d: d["cells"][0].update(role="winner"),
        lambda d: d["cells"][0].pop("nfe_counts"),
        lambda d: d["cells"][0]["quality"]["ffd"].update(mean=None),
        lambda d: d["cells"][0]["quality"]["ffd"].update(values=[]),
        lambda d: d["cells"][0]["steps"].update(rejected=-1),
        lambda d: d["cells"][0].update(utilisation=1.5),
        lambda d: d["cells"][0]["step_sizes"].update(p50="many"),
        lambda d: d["metrics"][0]["floor"].pop("what"),
        lambda d: d["recommendation"].update(by_series={"em": None}),
    ],
)
def test_invalid_documents_are_refused(damage):
    document = comparisons.fashion()
    damage(document)
    assert not VALIDATOR.is_valid(document)
    assert violation(document, CompareLog)


# --- table ---------------------------------------------------------------------------------------


def printed(document, *, width, plain=False, color=False):
    console = Console(
        width=width,
        file=io.StringIO(),
        highlight=False,
        no_color=not color,
        force_terminal=color,
        color_system="standard" if color else None,
        _environ={},
    )
    console.print(table(document, plain=plain))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_matched_cells_follow_their_adaptive_cell_and_the_reference_comes_last():
    labels = [row.texts["label"] for row in rows(comparisons.fashion())]
    assert labels == [
        "adaptive eps-rel 0.01",
        "em 360 NFE",
        "adaptive eps-rel 0.02",
        "em 239 NFE",
        "adaptive eps-rel 0.05",
        "em 139 NFE",
        "adaptive eps-rel 0.1",
        "em 100 NFE",
        "dpmpp-2m-sde",
        "ode-rk45",
        "em 1000 (reference)",
        "floor: 300 real test images",
    ]
    shuffled = comparisons.fashion()
    shuffled["cells"].reverse()
    following = [cell["id"] for cell in ordered(shuffled)]
    assert sorted(following) == sorted(cell["id"] for cell in shuffled["cells"])
    assert following[-1] == "em-steps=1000"
    for cell in shuffled["cells"]:
        if cell["matches"]:
            assert following.index(cell["id"]) == following.index(cell["matches"]) + 1


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_fits_and_names_the_columns_left_out(comparison, width):
    text = printed(comparison, width=width)
    assert max(map(len, text)) <= width
    joined = " ".join(" ".join(text).split())
    left = re.search(r"The terminal is too narrow for: (.*)\.", joined)
    for column in columns(comparison):
        assert (column.title in text[0]) != bool(left and column.title in left[1].split(", "))
    for cell in comparison["cells"]:
        for metric in comparison["metrics"] if cell["quality"] else ():
            mean = cell["quality"][metric["name"]]["mean"]
            assert f" {mean:,.{metric['digits']}f} " in joined
        assert cell["status"] == "done" or cell["status"] in joined
        runs = len(cell["runs"])
        assert not 0 < runs < comparison["repeats"] or f"{runs} of " in joined
        assert not cell["error"] or cell["error"] in joined
    assert (not left) or width == 80


def test_the_numbers_of_one_row():
    document = comparisons.single()
    cell = document["cells"][0]
    cell["quality"]["ffd"] = {"values": [1, 2], "mean": 1234.5678, "se": 0.126}
    cell.update(adaptive=True, steps={"accepted": 3, "rejected": 1}, images_per_s=0.5, lost=3)
    cell["nfe"].update(mean=1234.4, p95=2000, max=3456)
    line = printed(document, width=200)[1]
    assert line.split()[3:] == [
        "1,234",
        "1,234.57",
        "±",
        "0.13",
        "✓",
        "25%",
        "0.50",
        "2,000",
        "3,456",
        "126",
        "812",
        "3",
    ]


def test_only_the_best_row_is_bold_and_one_repeat_has_no_error_bars():
    text = printed(comparisons.fashion(), width=200, color=True)[1:]
    assert ["adaptive eps-rel 0.01" in line for line in text[:16]] == [
        "\x1b[1m" in line for line in text[:16]
    ]
    assert not any("±" in line for line in printed(comparisons.fashion(repeats=1), width=200))


def test_the_number_of_repeats_of_an_unfinished_cell_is_shown():
    document = comparisons.single()
    document["cells"][0]["runs"] = ["cells/a/0", "cells/a/1"]
    assert "(2 of 3 repeats)" in printed(document, width=200)[1]


@pytest.mark.parametrize("make", [*comparisons.ALL.values(), hostile])
def test_plain_is_ascii_and_control_characters_are_removed(make):
    for plain in (True, False):
        text = "".join(printed(make(), width=200, plain=plain))
        assert text.isprintable()
        assert text.isascii() or not plain
    if make is hostile:
        assert "[bold]" in text


# --- data ----------------------------------------------------------------------------------------


def numbers(value):
    if isinstance(value, dict):
        for inner in value.values():
            yield from numbers(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_the_csv_has_every_number_in_the_row_of_its_cell_and_repeat(comparison):
    rows = list(csv.DictReader(io.StringIO(csv_text(comparison))))
    for cell in comparison["cells"]:
        own = [row for row in rows if row["cell"] == cell["id"]]
        assert len(own) == max(1, len(cell["runs"]))
        for repeat, row in enumerate(own):
            assert row["repeat"] == (str(repeat) if cell["runs"] else "")
            assert row["label"] == cell["label"]
            for name, value in cell["quality"].items():
                assert float(row[name]) == value["values"][repeat]
                assert float(row[f"{name}.mean"]) == value["mean"]
                assert row[f"{name}.se"] == ("" if value["se"] is None else repr(value["se"]))
            written = {float(text) for text in row.values() if re.fullmatch(r"[\d.e+-]+", text)}
            apart = ("nfe_counts", "quality", "given", "runs")
            costs = {key: value for key, value in cell.items() if key not in apart}
            assert set(numbers(costs)) <= written
            for name, option in cell["options"].items():
                assert row[f"option.{name}"] == str(option)
    for metric in comparison["metrics"]:
        floors = [float(row[metric["name"]]) for row in rows if row["role"] == "floor"]
        assert floors == (metric["floor"] or {"values": []})["values"]
    text = csv_text(comparison)
    assert "\r" not in text
    assert len({len(row) for row in csv.reader(io.StringIO(text))}) == 1


# --- plots ---------------------------------------------------------------------------------------


def drawn(monkeypatch, plot, document):
    """The figure of a plot of a comparison."""
    figures = []
    for module in (quality, distributions):
        monkeypatch.setattr(module, "to_png", lambda figure, _: figures.append(figure) or b"")
    plot(document)
    return figures[0]


def test_quality_is_plotted_against_nfe_with_error_bars(monkeypatch):
    document = comparisons.fashion(metrics=("ffd", "coverage"))
    figure = drawn(monkeypatch, quality_vs_nfe, document)
    assert len(figure.axes) == 2
    for axes, metric in zip(figure.axes, document["metrics"], strict=True):
        assert axes.get_xscale() == "log"
        bars = {}
        for container in axes.containers:
            points, _, (segments,) = container.lines
            ends = segments.get_segments()
            for (x, y), (low, high) in zip(points.get_xydata(), ends, strict=True):
                bars.setdefault(round(x, 9), []).append((y, low[1], high[1]))
        # The series adaptive, em and dpmpp-2m-sde.
        assert len(axes.containers) == 3
        done = [cell for cell in document["cells"] if cell["status"] == "done"]
        assert sum(map(len, bars.values())) == len(done)
        for cell in done:
            q = cell["quality"][metric["name"]]
            wanted = pytest.approx((q["mean"], q["mean"] - q["se"], q["mean"] + q["se"]))
            assert any(bar == wanted for bar in bars[round(cell["nfe"]["mean"], 9)])
        floor, band = metric["floor"], axes.patches[0].get_bbox()
        assert band.y0 == pytest.approx(floor["mean"] - floor["se"])
        assert band.y1 == pytest.approx(floor["mean"] + floor["se"])
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert labels == ["eps-rel 0.1", "0.05", "0.02", "0.01"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [
        "adaptive",
        "em",
        "dpmpp-2m-sde",
        "recommended",
        "reference: em 1000",
        "floor: real or exact samples",
    ]


def test_each_histogram_has_all_samples_of_its_adaptive_cell(monkeypatch):
    document = comparisons.fashion()
    document["cells"][0]["nfe_counts"] = {"300": 1, "900": 3}
    document["cells"][0]["nfe"].update(min=300, max=900)
    figure = drawn(monkeypatch, nfe_histogram, document)
    cells = [cell for cell in document["cells"] if cell["adaptive"] and cell["nfe"]]
    assert len(figure.axes) == len(cells) == 4
    for axes, cell in zip(figure.axes, cells, strict=True):
        heights, edges, _ = axes.patches[0].get_data()
        counts = {int(k): n for k, n in cell["nfe_counts"].items()}
        share = heights / heights.sum()
        for low, high, found in zip(edges, edges[1:], share, strict=False):
            wanted = sum(n for k, n in counts.items() if low < k < high) / sum(counts.values())
            assert found == pytest.approx(wanted)
        assert heights.max() == 1


def test_step_sizes_are_plotted_as_medians_and_bands_from_noise_to_data(monkeypatch):
    document = comparisons.fashion()
    # A bin without steps.
    document["cells"][0]["step_sizes"]["p50"][3] = None
    (axes,) = drawn(monkeypatch, step_sizes, document).axes
    assert axes.get_xlim() == (1, 0)
    assert axes.get_yscale() == "log"
    cells = [c for c in ordered(document) if c["step_sizes"] and c["role"] != "reference"]
    assert [line.get_label() for line in axes.lines] == [cell["label"] for cell in cells]
    for line, cell in zip(axes.lines, cells, strict=True):
        steps = {key: np.array(v, dtype=float) for key, v in cell["step_sizes"].items()}
        np.testing.assert_array_equal(line.get_xydata(), np.stack([steps["t"], steps["p50"]], 1))
    bands = [c.get_datalim(axes.transData) for c in axes.collections]
    steps = [cell["step_sizes"] for cell in cells if cell["adaptive"]]
    ends = [(min(sizes["p10"]), max(sizes["p90"])) for sizes in steps]
    np.testing.assert_allclose([(b.y0, b.y1) for b in bands], ends)
    # em at the NFE of adaptive.
    assert axes.lines[0].get_color() == axes.lines[1].get_color()


def test_a_plot_is_a_png_file_with_the_command_or_none_without_data(comparison):
    for plot in PLOTS:
        content = plot(comparison)
        shown = [cell for cell in comparison["cells"] if cell["status"] == "done"]
        shown = [cell for cell in shown if cell["quality"] or plot is not quality_vs_nfe]
        if plot is nfe_histogram:
            shown = [cell for cell in shown if cell["adaptive"]]
        assert (content is not None) == bool(shown)
        if content:
            image = Image.open(io.BytesIO(content))
            assert image.text["ggf"] == comparison["command"]
            assert image.text["ggf-version"] == "0.1.0"
            assert "Software" not in image.text
            assert min(image.size) > 250


@pytest.mark.parametrize("plot", PLOTS)
def test_a_plot_has_the_same_bytes_with_any_matplotlib_settings(plot):
    document = comparisons.single()
    document["cells"][0]["adaptive"] = True
    first = plot(document)
    with matplotlib.rc_context({"font.size": 30, "savefig.transparent": True, "axes.grid": False}):
        assert plot(copy.deepcopy(document)) == first


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 80, 70)])
def test_images_are_placed_exactly_and_never_resampled(shape):
    document = comparisons.fashion()
    cells = [cell for cell in ordered(document) if cell["status"] == "done"][:3]
    generator = torch.Generator().manual_seed(0)
    pictures = {cell["id"]: torch.rand(4, *shape, generator=generator) for cell in cells}
    pictures[cells[1]["id"]] = pictures[cells[1]["id"]][:2]
    pictures[cells[2]["id"]][0] = float("nan")
    image = np.asarray(Image.open(io.BytesIO(grids(document, pictures))).convert("RGB"))
    scale = 3 if shape[1] == 28 else 1
    height, width = scale * shape[1], scale * shape[2]
    step = max(height + 4, 100)
    for row, cell in enumerate(cells):
        top = 40 + row * step + step - (step - height - 4) // 2 - height - 2
        for column, picture in enumerate(pictures[cell["id"]]):
            left = 440 + 2 + column * (width + 2)
            levels = (picture.nan_to_num(0) * 255).round().byte().permute(1, 2, 0).numpy()
            wanted = np.broadcast_to(levels.repeat(scale, 0).repeat(scale, 1), (height, width, 3))
            np.testing.assert_array_equal(image[top : top + height, left : left + width], wanted)
    assert (image[40 + step : 40 + 2 * step, 442 + 2 * (width + 2) :] == 255).all()


def test_without_images_there_is_no_grid():
    document = comparisons.exact()
    assert grids(document, {}) is None
    assert grids(document, {"adaptive": torch.zeros(4, 16)}) is None
    assert grids(document, {"adaptive": torch.zeros(0, 1, 8, 8)}) is None


# --- report --------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The tags of a page, and its text."""

    VOID = {"meta", "img"}  # noqa: RUF012

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open += [] if tag in self.VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


# The header of a PNG file of 1024 x 512 pixels.
PIXEL = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\4\0\0\0\2\0"


def test_the_report_is_complete_and_loads_no_other_files(comparison):
    images = dict.fromkeys(CAPTIONS, PIXEL)
    page = Page(report(comparison, images))
    assert page.all("html") == [{"lang": "en"}]
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert attributes.get("src", "data:").startswith("data:")
        assert "href" not in attributes
    assert len(page.all("img")) == len(images)
    assert all(
        len(image["alt"]) > 20 and (image["width"], image["height"]) == ("512", "256")
        for image in page.all("img")
    )
    heads = [head["scope"] for head in page.all("th")]
    assert heads.count("col") == len(columns(comparison))
    assert heads.count("row") == len(rows(comparison))
    texts = [
        comparison["command"],
        (comparison["recommendation"] or {"text": ""})["text"],
        "torch 2.13.0",
        *comparison["notes"],
        *comparison["findings"],
        *(text for row in rows(comparison) for text in row.texts.values()),
        *(cell["command"] for cell in comparison["cells"]),
        *(cell["error"] or "" for cell in comparison["cells"]),
    ]
    assert all(text in page.text for text in texts)
    assert ("Not finished" in page.text) == (comparison["status"] == "interrupted")


def test_untrusted_text_is_escaped():
    harmless, attack = comparisons.fashion(), hostile()
    names = [tag for tag, _ in Page(report(harmless, {"grids.png": PIXEL})).tags]
    page = Page(report(attack, {"grids.png": PIXEL}))
    assert [tag for tag, _ in page.tags if tag not in ("dt", "dd", "li")] == [
        tag for tag in names if tag not in ("dt", "dd", "li")
    ]
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert page.text.count("<script>alert(1)</script>") > 30
    assert "{{ 7 * 7 }}" in page.text
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")
    for plot in PLOTS:
        assert plot(attack)
    assert grids(attack, {cell["id"]: torch.zeros(2, 1, 8, 8) for cell in attack["cells"]})


def luminance(color):
    short = len(color) == 4
    digits = re.findall("." if short else "..", color[1:])
    parts = [int(c * 2 if short else c, 16) / 255 for c in digits]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_enough_contrast_in_both_colour_schemes():
    page = report(comparisons.single(), {})
    pattern = (
        r"--page: (\S+); --text: (\S+); --soft: (\S+); --rule: \S+; --panel: (\S+);"
        r" --accent: \S+; --bad: (\S+);"
    )
    schemes = re.findall(pattern, page)
    assert len(schemes) == 2
    for paper, *colors in schemes:
        panel = colors.pop(2)
        for color in colors:
            for ground in (paper, panel):
                light, dark = sorted((luminance(color), luminance(ground)), reverse=True)
                # WCAG 2.2, level AA.
                assert (light + 0.05) / (dark + 0.05) >= 4.5


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["published", "pending", "single", "exact", "unjudged"])
def test_the_folder_has_exactly_the_files_that_compare_json_lists(tmp_path, name):
    comparison = comparisons.ALL[name]()
    before = copy.deepcopy(comparison)
    shape = (2, 1, 8, 8) if comparison["model"]["name"] != "mixture" else (2, 16)
    pictures = {cell["id"]: torch.zeros(shape) for cell in comparison["cells"] if cell["nfe"]}
    # A second call replaces the files of the first.
    for _ in range(1 if len(comparison["cells"]) > 1 else 2):
        returned = write_outputs(comparison, pictures, tmp_path / "out")
    found = json.loads((tmp_path / "out/compare.json").read_text())
    VALIDATOR.validate(found)
    assert found == returned == {**before, "files": found["files"]}
    assert comparison == before
    names = {file["path"] for file in found["files"]}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {"compare.json"}
    assert {"compare.csv", "report.html"} <= names
    for file in found["files"]:
        content = (tmp_path / "out" / file["path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
        assert (file["path"] in CAPTIONS) == file["path"].endswith(".png")


def test_compare_json_is_written_after_all_other_files(tmp_path):
    (tmp_path / "report.html/in the way").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"report\.html"):
        write_outputs(comparisons.pending(), {}, tmp_path)
    assert not (tmp_path / "compare.json").exists()


def test_a_number_that_is_not_finite_is_never_written(tmp_path):
    document = comparisons.pending()
    document["budget_s"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        write_outputs(document, {}, tmp_path)
    assert not (tmp_path / "compare.json").exists()
