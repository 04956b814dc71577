"""`ggf_cli.comparison`: line-ups, budgets, drawing and continuing cells, analysis and progress."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from filelock import FileLock

from command import ggf, read_log
from comparison_requests import cells_of, plan
from ggf_cli.comparison.folder import read_document
from ggf_cli.comparison.lineup import Contender, format_contender, make_cells, parse_contender
from ggf_cli.comparison.observer import ComparisonObserver
from ggf_cli.comparison.presets import PRESETS
from ggf_cli.comparison.runner import Comparison
from ggf_cli.comparison.speed import expected_nfe
from ggf_cli.comparison.step_sizes import step_size_percentiles
from ggf_cli.engine import Engine
from ggf_cli.errors import OutputError, UsageError
from ggf_cli.runs.documents import FileLog
from ggf_cli.runs.images import to_uint8
from ggf_cli.runs.load_samples import load_samples
from ggf_cli.solvers import SOLVERS, make_solver
from ggf_cli.solvers.catalog import read_catalog
from problems import VE, VP, gaussian_model

# --- line-up -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOLVERS)
def test_parse_contender_is_the_inverse_of_format_contender(name):
    options = {
        option: about.default
        for option, about in read_catalog()[name].options.items()
        if about.default is not None
    }
    text = format_contender(name, options)
    assert parse_contender(text) == Contender(solver=name, given=options)


def test_a_value_may_have_commas():
    contender = parse_contender("restart:intervals=0.06-0.30:2x2,0.3-0.5:1x2,steps=9")
    assert contender.given == {"intervals": "0.06-0.30:2x2,0.3-0.5:1x2", "steps": 9}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adaptiv", "unknown solver 'adaptiv'"),
        ("adaptive:eps", "'eps' is not OPTION=VALUE"),
        ("adaptive:steps=5", "no option 'steps'"),
        ("em:steps=many", "it must be a whole number"),
        ("adaptive:eps-rel=x", "it must be a number"),
        ("em:denoise=perhaps", "it must be yes or no"),
    ],
)
def test_an_invalid_contender_is_refused(text, message):
    with pytest.raises(UsageError, match=message) as error:
        parse_contender(text)
    assert text.split(":")[0] in error.value.message


def test_fixed_step_solvers_are_matched_to_each_tolerance_and_added_as_reference():
    cells = cells_of("em", "adaptive", eps_rel=(0.02, 0.1))
    assert [(c.id, c.role, c.matches) for c in cells] == [
        ("adaptive-eps_rel=0.02", "contender", None),
        ("adaptive-eps_rel=0.1", "contender", None),
        ("em-at-adaptive-eps_rel=0.02", "matched", "adaptive-eps_rel=0.02"),
        ("em-at-adaptive-eps_rel=0.1", "matched", "adaptive-eps_rel=0.1"),
        ("em-steps=1000", "reference", None),
    ]
    assert {c.series for c in cells} == {"adaptive", "em"}


def test_contenders_with_given_budgets_and_options_keep_them():
    cells = cells_of("em", "heun:steps=9", "adaptive:norm=linf,eps-rel=0.3", nfe=(20, 50))
    assert [c.id for c in cells] == [
        "em-nfe=20",
        "em-nfe=50",
        "heun-steps=9",
        "adaptive-norm=linf-eps_rel=0.3",
    ]
    assert cells[-1].series == "adaptive:norm=linf"


def test_solvers_can_be_compared_at_their_default_options():
    cells = cells_of("em", "adaptive", "heun", eps_rel=(0.02,), nfe="default")
    assert [(c.id, c.role) for c in cells] == [
        ("adaptive-eps_rel=0.02", "contender"),
        ("heun", "contender"),
        ("em-steps=1000", "reference"),
    ]


def test_cells_with_given_times_have_distinct_ids_that_fit_a_file_name():
    times = ",".join(map(str, (1.0, *(0.9 - 0.01 * i for i in range(40)), 0.001)))
    frozen = cells_of(f"adaptive-multistep:times={times}", "em:steps=20", nfe=(9,))
    other = cells_of(f"adaptive-multistep:times={times[:-1]}", "em:steps=20", nfe=(9,))
    assert len(frozen) == 2
    assert len(frozen[0].id) <= 80
    assert frozen[0].id != other[0].id


def test_equal_cells_count_once_and_a_single_cell_is_refused():
    assert len(cells_of("em:steps=1000", "em:steps=1000", "adaptive:eps-rel=0.1")) == 2
    assert cells_of("em:steps=1000", "heun")[-1].role == "reference"
    with pytest.raises(UsageError, match="em-steps=1000 alone"):
        cells_of("em:steps=1000")


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_published_number_belongs_to_a_cell(preset):
    for model, rows in preset.published.items():
        cells = make_cells(preset.line_up(model), reference=preset.reference)
        assert len(preset.numbers(model, cells)) == len(rows)
        for cell in cells:
            make_solver(cell.solver, dict(cell.given))


def test_published_numbers_are_assigned_to_their_cells():
    preset = PRESETS["paper-cifar10"]
    cells = make_cells(preset.line_up("cifar10-ve"), reference=preset.reference)
    numbers = preset.numbers("cifar10-ve", cells)
    assert numbers["em-at-adaptive-eps_rel=0.05"] == {"nfe": 271, "fid": 3.48}
    assert "em-nfe=1000" not in numbers
    assert preset.numbers("fashion-vp", cells) == {}


# --- drawing -------------------------------------------------------------------------------------


def test_out_of_memory_reduces_the_batch_size_and_changes_no_result(tmp_path):
    plain = gaussian_model(VP, dtype=torch.float32)
    sizes, reported = [], []

    def score(x, t):
        if len(sizes) > 20 and len(x) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(x))
        return plain.score(x, t)

    class Recorder(ComparisonObserver):
        def out_of_memory(self, batch_size):
            reported.append(batch_size)

    expected = Comparison(plan(tmp_path / "plenty")).run()
    comparison = Comparison(plan(tmp_path / "scarce", model=replace(plain, score=score)))
    result = comparison.run(Recorder())
    # Reported once: later cells start with this batch size.
    assert reported == [4]
    for cell, other in zip(result["cells"], expected["cells"], strict=True):
        for key in ("id", "nfe", "quality", "error", "steps"):
            assert cell.get(key) == other.get(key)


def test_every_cell_is_drawn_evaluated_and_recorded(tmp_path):
    result = Comparison(plan(tmp_path)).run()
    assert result["status"] == "completed"
    assert read_document(tmp_path) == json.loads(json.dumps(result))
    by_id = {cell["id"]: cell for cell in result["cells"]}
    adaptive, matched = by_id["adaptive-eps_rel=0.1"], by_id["em-at-adaptive-eps_rel=0.1"]
    assert abs(matched["nfe"]["mean"] - adaptive["nfe"]["mean"]) < 2
    assert matched["command"].endswith(f"--solver em --nfe {matched['nfe']['max']}")
    assert by_id["em-steps=60"]["nfe"]["mean"] == 61
    for cell in result["cells"]:
        assert len(cell["runs"]) == 2
        assert len(cell["quality"]["mean"]["values"]) == 2
        assert sum(cell["nfe_counts"].values()) == 24
        assert cell["nfe"]["total"] <= cell["rows_evaluated"]
        assert cell["step_sizes"]["t"][0] > 0.9
    assert sum(cell["best"] for cell in result["cells"]) == 1
    # Two matched pairs, and adaptive against the reference.
    assert len(result["findings"]) == 3


def test_a_repeat_is_a_run_with_the_samples_of_its_indices(tmp_path):
    model = gaussian_model(VP, dtype=torch.float32)
    cells = cells_of("em:steps=20", "em:steps=5", nfe=(9,))
    Comparison(plan(tmp_path, cells=cells, n=7)).run()
    folder = tmp_path / "cells/em-steps=20/1"
    assert [path.name for path in sorted(folder.iterdir())] == ["run.json", "samples.npz"]
    log = read_log(folder)
    assert log["indices"] == "7-13"
    samples = load_samples(folder, [FileLog(**file) for file in log["files"]])
    engine = Engine(model, make_solver("em", {"steps": 20}), batch_size=5)
    expected = list(engine.run(range(7, 14)))
    assert samples.index.tolist() == list(range(7, 14))
    for x, image, sample in zip(samples.x, samples.images, expected, strict=True):
        assert (x == sample.x.numpy()).all()
        assert (image == to_uint8(sample.image)).all()
    assert {sample["nfe"] for sample in log["samples"]} == {21}
    # Each of the 7 samples has 20 equal steps from 1 to t_eps.
    assert [len(times) for times in samples.step_times] == [21] * 7
    for times in samples.step_times:
        assert times[0] == 1
        assert -np.diff(times) == pytest.approx((1 - 1e-3) / 20, rel=1e-4)


def test_a_run_whose_samples_are_damaged_is_drawn_again(tmp_path):
    cells = cells_of("em:steps=20", "em:steps=5", nfe=(9,))
    before = Comparison(plan(tmp_path, cells=cells)).run()
    file = tmp_path / "cells/em-steps=20/1/samples.npz"
    content, others = file.read_bytes(), drawn(tmp_path)
    file.write_bytes(content[: len(content) // 2])
    warnings = []

    class Recorder(ComparisonObserver):
        def warn(self, text):
            warnings.append(text)

    after = Comparison(plan(tmp_path, cells=cells)).run(Recorder())
    assert file.read_bytes() == content
    assert len(warnings) == 1
    assert "em-steps=20/1 is drawn again: cannot read" in warnings[0]
    key = "cells/em-steps=20/1/samples.npz"
    assert {k: v for k, v in drawn(tmp_path).items() if k != key} == {
        k: v for k, v in others.items() if k != key
    }
    for cell, other in zip(after["cells"], before["cells"], strict=True):
        assert cell["quality"] == other["quality"]


def test_a_comparison_that_is_killed_within_a_run_continues_sample_by_sample(tmp_path):
    """Finished samples of that run are kept."""
    whole = Comparison(plan(tmp_path / "whole")).run()
    finished = 0

    class Watch(ComparisonObserver):
        def tick(self, progress):
            nonlocal finished
            finished = progress.finished

    comparison = Comparison(plan(tmp_path / "part", batch_size=2))
    with pytest.raises(KeyboardInterrupt):
        comparison.run(Watch(), stop=lambda: finished >= 4)
    [journal] = (tmp_path / "part").rglob("journal-0.jsonl")
    kept = [
        json.loads(line)["index"]
        for line in journal.read_text().splitlines()[1:]
        if '"index"' in line
    ]
    assert 4 <= len(kept) < 12
    ticks = []

    class First(ComparisonObserver):
        def tick(self, progress):
            ticks.append(progress.finished)

    result = Comparison(plan(tmp_path / "part", batch_size=2)).run(First())
    assert ticks[0] >= len(kept)
    for cell, other in zip(result["cells"], whole["cells"], strict=True):
        for name in ("quality", "nfe_counts", "step_sizes", "steps"):
            assert cell[name] == other[name]
    assert not list((tmp_path / "part").rglob("journal-*"))


def test_a_comparison_of_an_earlier_version_can_be_shown_but_not_continued(tmp_path):
    Comparison(plan(tmp_path)).run()
    document = json.loads((tmp_path / "compare.json").read_text())
    document["schema"] = "ggf-compare/1"
    for cell in document["cells"]:
        cell["pieces"] = len(cell.pop("runs"))
        cell["tied"] = cell.pop("statement") is None
    (tmp_path / "compare.json").write_text(json.dumps(document))
    assert read_document(tmp_path)["cells"][0]["runs"][1].startswith("samples/adaptive")
    with pytest.raises(OutputError, match="former version, which cannot be continued"):
        Comparison(plan(tmp_path))
    assert ggf("show", tmp_path).exit_code == 0


def test_step_size_percentiles_are_by_time():
    h = {1.0: 0.1, 0.99: 0.2, 0.98: 0.3, 0.01: 9.0}
    times = [[t, t - step] for t, step in h.items()] + [[0.51, 0.5]] * 3
    found = step_size_percentiles(times)
    # A bin with one step is not shown, and steps towards more noise do not count.
    assert found["t"] == [0.9875, 0.5125]
    assert found["p50"] == pytest.approx([0.2, 0.01])
    assert step_size_percentiles([[0.5, 0.6]]) is None
    assert step_size_percentiles([]) is None


def drawn(folder):
    """{sample file of a run that has ended: time of writing}."""
    ended = [run for run in folder.glob("cells/*/*") if not list(run.glob("journal-*"))]
    files = [path for run in ended for path in run.glob("samples.npz")]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


def test_a_stopped_comparison_continues(tmp_path):
    ticks = 0

    def stop():
        nonlocal ticks
        ticks += 1
        return ticks > 600

    comparison = Comparison(plan(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        comparison.run(stop=stop)
    stopped = comparison.result()
    assert stopped["status"] == "interrupted"
    assert {"done", "pending"} == {cell["status"] for cell in stopped["cells"]}
    # Pending cells have these too.
    for cell in stopped["cells"]:
        assert cell["options"].keys() == read_catalog()[cell["solver"]].options.keys()
        assert cell["command"].startswith("ggf sample --model gaussian --solver")
    before = drawn(tmp_path)
    assert 0 < len(before) < 10

    result = Comparison(plan(tmp_path)).run()
    assert result["status"] == "completed"
    # No finished run is drawn again.
    assert before.items() <= drawn(tmp_path).items()

    whole = Comparison(plan(tmp_path / "whole")).run()
    for one, other in zip(result["cells"], whole["cells"], strict=True):
        assert one["quality"] == other["quality"]
        assert one["nfe_counts"] == other["nfe_counts"]


def test_a_folder_of_another_comparison_is_refused(tmp_path):
    Comparison(plan(tmp_path, repeats=1)).run()
    for other in ({"seed": 1}, {"n": 13}, {"cells": cells_of("heun", "em")}):
        with pytest.raises(OutputError, match="another comparison"):
            Comparison(plan(tmp_path, **({"repeats": 1} | other)))
    with pytest.raises(OutputError, match="differs in model"):
        Comparison(plan(tmp_path, repeats=1, model=gaussian_model(VE, dtype=torch.float32)))
    (tmp_path / "compare.json").write_text('{"schema": "other"}')
    with pytest.raises(OutputError, match="no comparison"):
        Comparison(plan(tmp_path, repeats=1))


def test_folders_with_other_files_or_in_use_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(OutputError, match="not empty and has no comparison"):
        Comparison(plan(tmp_path / "other"))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file.*[Nn]ot a directory|exists"):
        Comparison(plan(tmp_path / "file")).run()
    comparison = Comparison(plan(tmp_path / "shared"))
    (tmp_path / "shared").mkdir()
    lock = FileLock(tmp_path / "shared" / ".lock")
    with lock, pytest.raises(OutputError, match="another comparison is writing"):
        comparison.run()
    assert comparison.run()["status"] == "completed"


def test_a_failed_cell_has_an_error_and_all_other_cells_are_drawn(tmp_path):
    model = gaussian_model(VP, dtype=torch.float32)

    # One long step skips the times where this score is NaN.
    def partly_nan(x, t):
        broken = (t > 0.01) & (t < 0.5)
        return torch.where(broken[:, None, None, None], torch.nan, model.score(x, t))

    broken = replace(model, score=partly_nan)
    cells = cells_of("em:steps=1", "adaptive:eps-rel=0.1", "em:steps=5", nfe=(9,))
    result = Comparison(plan(tmp_path, model=broken, cells=cells, repeats=2)).run()
    assert result["status"] == "completed"
    status = {cell["id"]: cell["status"] for cell in result["cells"]}
    assert status == {
        "em-steps=1": "done",
        "adaptive-eps_rel=0.1": "failed",
        "em-steps=5": "failed",
    }
    assert "none of 12 samples" in result["cells"][1]["error"]
    # Nothing is left to compare it with.
    assert result["recommendation"]["overall"] is None
    assert "no cheaper setting" in result["recommendation"]["text"]


def test_options_are_checked_before_anything_is_drawn(tmp_path):
    with pytest.raises(UsageError, match="eps_rel"):
        Comparison(plan(tmp_path, "adaptive:eps-rel=-1", "em"))
    assert not drawn(tmp_path)


def test_expected_nfe_is_computed_or_measured_on_a_few_samples():
    cells = cells_of("adaptive", "em", "heun:steps=4", eps_rel=(0.1,))
    model = gaussian_model(VP, dtype=torch.float32)
    expected, estimated = expected_nfe(cells, model)
    assert not estimated
    assert expected["em-steps=1000"] == 1001
    assert expected["heun-steps=4"] == 9
    assert 10 < expected["adaptive-eps_rel=0.1"] < 200
    assert expected["em-at-adaptive-eps_rel=0.1"] == expected["adaptive-eps_rel=0.1"]


# --- progress ------------------------------------------------------------------------------------


def test_the_forecast_counts_evaluations_and_uses_measured_nfe():
    from ggf_cli.cli.compare_progress import Forecast

    cells = cells_of("adaptive:eps-rel=0.1", "em", eps_rel=(0.1,), reference=("em", {"steps": 99}))
    nfe = {"adaptive-eps_rel=0.1": 250, "em-at-adaptive-eps_rel=0.1": 250, "em-steps=99": 100}
    forecast = Forecast(cells, nfe, 10, 2)
    assert forecast.remaining == 2 * 10 * 600
    forecast.begin("adaptive-eps_rel=0.1", kept=False)
    forecast.tick(1250)
    assert forecast.current == 0.5
    assert forecast.remaining == 2 * 10 * 600 - 1250
    # The measured NFE counts for the matched cell too.
    forecast.end("adaptive-eps_rel=0.1", 50.0)
    assert forecast.remaining == 10 * 50 + 2 * 10 * (50 + 100)
    assert forecast.ended == 1
    forecast.begin("em-steps=99", kept=False)
    # A failed cell has no evaluations left.
    forecast.end("em-steps=99", None)
    assert forecast.remaining == 10 * 50 + 2 * 10 * 50
    assert forecast.ended == 3
