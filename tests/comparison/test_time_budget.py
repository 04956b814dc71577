"""Time budgets: durations, costs, what is cut and when; with given costs and clocks."""

import pytest
import torch

from comparison_requests import MeanError, cells_of, plan
from ggf_cli.comparison.budget import LEAST, afford, next_cut
from ggf_cli.comparison.costs import REPORT_CELL_S, REPORT_S, RUN_S, CallCost, Costs, Growth
from ggf_cli.comparison.deadline import Deadline
from ggf_cli.comparison.durations import as_duration, parse_duration
from ggf_cli.comparison.observer import ComparisonObserver
from ggf_cli.comparison.request import CompareRequest, check_possible, plan_comparison
from ggf_cli.comparison.runner import Comparison
from ggf_cli.errors import OptionError, UsageError
from problems import VP, gaussian_model

# --- durations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("5min", 300),
        ("1h", 3600),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("1 h 30 min", 5400),
        ("2m30s", 150),
        ("1H", 3600),
    ],
)
def test_a_duration_is_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "-1m", "10x", "nan", "inf", "0s", "30m1h", "1e9h", "9" * 9]
)
def test_another_text_is_refused(text):
    with pytest.raises(UsageError):
        parse_duration(text)


def test_a_number_without_unit_is_refused_with_both_readings():
    with pytest.raises(UsageError, match="10 of what") as error:
        parse_duration("10")
    assert error.value.hint == "write 10s or 10min"


def test_durations_are_formatted():
    texts = [as_duration(s) for s in (4.21, 45, 200, 240, 3900, 3599.9)]
    assert texts == ["4.2 s", "45 s", "3 min 20 s", "4 min", "1 h 05 min", "1 h 00 min"]


# --- costs ---------------------------------------------------------------------------------------


def test_the_cost_of_a_call_is_found_from_two_batch_sizes():
    cost = CallCost.through((8, 0.1 + 8 * 0.02), (128, 0.1 + 128 * 0.02))
    assert (cost.call, cost.row) == (pytest.approx(0.1), pytest.approx(0.02))
    # Noise must not give a negative time.
    assert CallCost.through((8, 3.0), (128, 2.0)) == CallCost(row=2.0 / 128)
    assert CallCost.through((8, 0.01), (128, 3.0)).call == 0


@pytest.mark.parametrize("truth", [Growth(c0=2.0), Growth(c1=0.01), Growth(c0=1, c1=0.01, c2=1e-5)])
def test_growth_is_found_from_measurements(truth):
    points = [(n, truth(n)) for n in (64, 256, 1024, 4096)]
    found = Growth.through(points)
    assert found(20_000) == pytest.approx(truth(20_000), rel=0.02)


def test_one_measurement_gives_its_own_value():
    assert Growth.through([(100, 2.0)])(100) == pytest.approx(2.0)
    assert Growth.through([])(100) == 0


CELLS = cells_of("adaptive", "em", eps_rel=(0.02, 0.1))
NFE = {
    "adaptive-eps_rel=0.02": 200.0,
    "adaptive-eps_rel=0.1": 80.0,
    "em-at-adaptive-eps_rel=0.02": 200.0,
    "em-at-adaptive-eps_rel=0.1": 80.0,
    "em-steps=1000": 1001.0,
}


def costs_of(rate, **more):
    return Costs(nfe=NFE, calls=dict.fromkeys(NFE, CallCost(row=1 / rate)), batch_size=64, **more)


def test_the_total_time_is_the_sum_of_its_parts():
    costs = costs_of(1000, evaluation=Growth(c0=3.0), floors=Growth(c1=0.01))
    cell = next(c for c in CELLS if c.id == "em-steps=1000")
    assert costs.drawing(cell, 100) == pytest.approx(100.1 + RUN_S, abs=0.1)
    total = 0.01 * 100 + 2 * sum(costs.repeat(c, 100) for c in CELLS)
    total += REPORT_S + REPORT_CELL_S * len(CELLS)
    assert costs.total(CELLS, 100, 2) == pytest.approx(total)
    shared = costs_of(1000, processes=4)
    assert shared.drawing(cell, 100) == pytest.approx(25.0 + RUN_S, abs=0.1)


# --- what fits -----------------------------------------------------------------------------------


def allocation(rate, *, seconds=600.0, repeats=1, min_samples=100, most=10**6, **more):
    return afford(
        CELLS,
        costs_of(rate, **more),
        seconds=seconds,
        repeats=repeats,
        min_samples=min_samples,
        most=most,
    )


def test_a_budget_is_used_for_samples():
    rich = allocation(10_000)
    assert len(rich.cells) == 5
    assert rich.fits
    assert not rich.notes
    assert 0.98 * 600 < rich.seconds <= 600
    assert allocation(20_000).n == pytest.approx(2 * rich.n, rel=0.05)
    assert allocation(1e9, most=5000).n == 5000
    slow_metric = allocation(10_000, evaluation=Growth(c2=1e-5))
    assert slow_metric.n < rich.n
    assert slow_metric.seconds <= 600


def test_cuts_are_the_reference_then_settings_then_repeats_then_samples():
    # All cells and 300 samples: 1561 evaluations of a sample.
    cut = allocation(600)
    assert [c.id for c in cut.cells] == [c.id for c in CELLS if c.role != "reference"]
    assert cut.notes[0].startswith("em-steps=1000 is left out: 300 samples of it take 8 min 21 s")
    fewer = allocation(200)
    assert [c.id for c in fewer.cells] == ["adaptive-eps_rel=0.1", "em-at-adaptive-eps_rel=0.1"]
    assert [note.split()[0] for note in fewer.notes] == ["em-steps=1000", "adaptive-eps_rel=0.02"]
    repeats = allocation(200, repeats=3)
    assert repeats.repeats == 2
    assert "2 repeats in place of 3" in repeats.notes[-1]
    least = allocation(50, repeats=3)
    assert (least.repeats, least.fits) == (1, True)
    assert 100 <= least.n < 300
    impossible = allocation(20)
    assert (impossible.n, impossible.fits) == (100, False)
    assert impossible.seconds > 600


def test_a_metric_without_minimum_has_a_few_samples_in_each_group():
    assert allocation(200, min_samples=2).n >= LEAST


def test_two_cells_and_a_setting_of_each_solver_remain():
    costs, cells = costs_of(100), list(CELLS)
    while cut := next_cut(cells, costs):
        cells = [c for c in cells if cut.id not in (c.id, c.matches)]
    assert [c.id for c in cells] == ["adaptive-eps_rel=0.1", "em-at-adaptive-eps_rel=0.1"]


# --- while drawing -------------------------------------------------------------------------------


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def deadline(clock, costs, *, n=100):
    total = costs.total(CELLS, n, 1)
    return Deadline(budget_s=total, started=0.0, costs=costs, cells=CELLS, n=n, clock=clock)


def draw(cells, clock, end, costs, slower):
    """Draw cells by a clock, `slower` times as slow as expected; the cells that were drawn."""
    left, drawn = list(cells), []
    while left:
        cell = left[0]
        if cell in end.to_cut(left):
            left = [c for c in left if cell.id not in (c.id, c.matches)]
            continue
        left.remove(cell)
        end.begin()
        clock.now += slower * costs.repeat(cell, 100)
        end.end(cell)
        drawn.append(cell)
    return drawn


@pytest.mark.parametrize(("slower", "count"), [(0.5, 5), (1.0, 5), (1.05, 5), (1.5, 4), (3.0, 2)])
def test_a_slow_comparison_leaves_out_the_reference_first(slower, count):
    clock, costs = Clock(), costs_of(1000)
    end = deadline(clock, costs)
    drawn = draw(CELLS, clock, end, costs, slower)
    assert [c.id for c in drawn if c.role != "reference"][:2] == [c.id for c in CELLS[:2]]
    assert len(drawn) >= count
    assert (len(drawn) == 5) == (slower < 1.1)
    assert clock.now <= 1.1 * costs.total(CELLS, 100, 1) or len(drawn) == 2


def test_a_run_that_would_end_too_late_is_found_out_soon():
    clock, costs = Clock(), costs_of(1000)
    end, reference = deadline(clock, costs), CELLS[-1]
    draw(CELLS[:-1], clock, end, costs, 1.0)
    end.begin()
    clock.now += 1
    assert not end.too_late(reference, 0.001)
    clock.now += 20
    assert not end.too_late(reference, 0.2)
    assert end.too_late(reference, 0.1)
    assert end.can_spare(reference, [])


def test_a_solver_with_one_setting_is_not_given_up():
    end = deadline(Clock(), costs_of(1000))
    assert end.can_spare(CELLS[0], CELLS[1:])
    only = cells_of("adaptive:eps-rel=0.02", "em:steps=50")
    end = Deadline(budget_s=1, started=0.0, costs=costs_of(1), cells=only, n=9)
    assert not end.can_spare(only[0], only[1:])


def test_what_was_left_out_is_in_the_document_and_said(tmp_path):
    said = []

    class Recorder(ComparisonObserver):
        def warn(self, text):
            said.append(text)

    model = gaussian_model(VP, dtype=torch.float32)
    request = plan(tmp_path, model=model)
    costs = Costs(
        nfe=dict.fromkeys((c.id for c in request.cells), 60.0),
        calls={c.id: CallCost(row=1e-9) for c in request.cells},
        batch_size=8,
    )
    # Everything takes much longer than these costs.
    clock = Clock()
    end = Deadline(
        budget_s=0.1 + costs.total(request.cells, 12, 2),
        started=0.0,
        costs=costs,
        cells=request.cells,
        n=12,
        clock=clock,
    )
    slow = MeanError()

    def groups(x):
        clock.now += 2.0
        return MeanError.groups(slow, x)

    slow.groups = groups
    changed = plan(tmp_path, model=model, evaluators=[slow], deadline=end, expected_nfe=costs.nfe)
    result = Comparison(changed).run(Recorder())
    assert result["status"] == "completed"
    assert result["repeats"] == 1
    ids = [cell["id"] for cell in result["cells"]]
    assert "em-steps=60" not in ids
    assert len(ids) < len(request.cells)
    assert said
    assert [note for note in result["notes"] if note in said] == said
    assert all(len(cell["runs"]) == 1 for cell in result["cells"])


# --- impossible requests --------------------------------------------------------------------------


class Facts:
    """A model of Fashion-MNIST that is not loaded."""

    name, shape, data_range, distribution, conditional = "f", (1, 28, 28), (0, 1), None, False


def request_of(**changes):
    from ggf_cli.comparison.lineup import parse_contender

    contenders = tuple(map(parse_contender, ("adaptive:eps-rel=0.5", "em:nfe=5")))
    return CompareRequest(contenders=contenders, model="f", nfe=(5,), **changes)


def test_a_metric_that_needs_more_samples_is_refused_without_the_model():
    with pytest.raises(OptionError, match="n is 16, and FFD needs 128 samples at least"):
        check_possible(request_of(n=16), Facts())
    check_possible(request_of(n=128), Facts())
    check_possible(request_of(n=16, metrics=("precision",)), Facts())
    with pytest.raises(UsageError, match="'fid' needs"):
        check_possible(request_of(metrics=("fid",)), Facts())
    with pytest.raises(UsageError, match="unknown metric"):
        check_possible(request_of(metrics=("fit",)), Facts())


def test_the_table_of_metrics_has_the_minimum_of_each_feature_space():
    from ggf_cli.metrics.registry import SPACES

    for entry in SPACES.values():
        assert entry.load().min_samples == entry.min_samples


def test_a_budget_that_is_too_small_is_refused_or_exceeded_as_allowed(tmp_path, mixture):
    from ggf_cli.metrics.evaluator import make_evaluators

    asked = []

    def allow(sentence):
        asked.append(sentence)
        return True

    evaluators = make_evaluators(["swd"], mixture)
    request = request_of(budget_s=1.0)
    with pytest.raises(UsageError, match=r"the fewest samples .*the time budget is 1\.0 s"):
        plan_comparison(request, mixture, evaluators, tmp_path, batch_size=16)
    found = plan_comparison(request, mixture, evaluators, tmp_path, batch_size=16, may_exceed=allow)
    assert found.n == 2
    assert len(asked) == 1
    assert found.notes[-1] == f"over the time budget, as allowed: {asked[0]}"
