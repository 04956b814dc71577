"""Analysis of a comparison: baseline, statements, recommendation and sentences."""

import random
from statistics import fmean, stdev

import pytest
import torch

from ggf_cli.comparison.analysis import Analysis, limit, summarise
from ggf_cli.comparison.statements import two_digits
from ggf_cli.metrics.evaluator import GROUPS
from ggf_cli.metrics.frechet import excess, frechet, frechet_distance, influence

N = 100
METRIC = {"name": "d", "title": "D", "lower_is_better": True, "digits": 2}
NOISE = [1.0, -1.0, 2.0, -2.0, 0.5, -0.5]


def cell(name, nfe, value, *, noise=0.01, role="contender", matches=None, adaptive=False, seed=0):
    """A cell with groups around a value, whose noise is its own."""
    order = random.Random(f"{name} {seed}").sample(NOISE, len(NOISE))
    groups = [value + noise * z for z in order]
    return {
        "id": name,
        "label": name,
        "series": name.split("-")[0],
        "role": role,
        "matches": matches,
        "adaptive": adaptive,
        "nfe": {"mean": nfe},
        "quality": {"d": summarise([value], groups)},
        "runs": ["0"],
    }


def reference(value=10.0, **more):
    return cell("em-1000", 1001, value, role="reference", **more)


def test_the_cheapest_setting_that_is_as_good_as_the_reference_is_recommended():
    cells = [
        cell("adaptive-fine", 400, 9.0),
        cell("adaptive-coarse", 100, 10.2),
        cell("adaptive-coarser", 50, 14.0),
        cell("heun-1", 60, 10.0, noise=9.0),
        reference(),
    ]
    analysis = Analysis(METRIC, cells, N)
    claims = [analysis.statement(c["id"])["claim"] for c in cells[:4]]
    assert claims == ["better", "equivalent", "worse", "undecided"]
    assert analysis.statement("em-1000") is None
    advice = analysis.recommendation()
    assert advice["overall"] == "adaptive-coarse"
    assert advice["by_series"] == {"adaptive": "adaptive-coarse"}
    assert advice["within"] == 0.05
    assert advice["text"].startswith(
        "adaptive-coarse (D 10.20 ± 0.01) at 100 NFE, equivalent to em-1000 (D 10.00 ± 0.01), which"
        " takes 10.0 times as many evaluations; difference +0.20, 95 % confidence interval +0.1"
    )
    assert advice["text"].endswith("margin 0.50.")


def test_an_undecided_setting_is_never_recommended():
    cells = [cell("a-1", 100, 10.0, noise=5.0), cell("a-2", 300, 10.0, noise=9.0), reference()]
    advice = Analysis(METRIC, cells, N).recommendation()
    assert advice["overall"] is None
    assert advice["by_series"] == {}
    assert advice["text"].startswith(
        "No setting is shown to be within 5 % of em-1000 (D 10.00 ± 0.01);"
        " a-1 is undecided at n = 100; about "
    )
    assert advice["text"].endswith("samples would decide.")
    # With one group each nothing can be stated.
    single = [
        {**c, "quality": {"d": summarise([v])}} for c, v in zip(cells, (1.0, 2.0, 9.0), strict=True)
    ]
    advice = Analysis(METRIC, single, N).recommendation()
    assert advice["overall"] is None
    assert "undecided, without an error bar: use --repeats" in advice["text"]


def test_the_reference_is_recommended_if_every_cheaper_setting_is_worse():
    cells = [cell("a-1", 100, 30.0), cell("a-2", 300, 20.0), reference()]
    advice = Analysis(METRIC, cells, N).recommendation()
    assert advice["overall"] == "em-1000"
    assert advice["text"] == (
        "em-1000 (D 10.00 ± 0.01) at 1001 NFE: every cheaper setting is worse."
    )
    assert Analysis(METRIC, [reference()], N).recommendation()["overall"] is None
    assert Analysis(METRIC, [], N).recommendation() is None


def test_without_a_reference_the_baseline_is_the_setting_with_the_most_evaluations():
    # Not the best mean, which is too good by chance.
    cells = [cell("a-1", 50, 10.0), cell("b-1", 100, 9.9), cell("c-1", 400, 10.0)]
    analysis = Analysis(METRIC, cells, N)
    assert analysis.best() == "b-1"
    assert analysis.statement("a-1")["baseline"] == "c-1"
    assert analysis.recommendation()["overall"] == "a-1"


def test_the_margin_is_the_given_share_and_higher_may_be_better():
    metric = METRIC | {"lower_is_better": False, "digits": 3}
    cells = [
        cell("a-1", 10, 0.85, noise=1e-3),
        cell("b-1", 20, 0.95, noise=1e-3),
        reference(0.9, noise=1e-3),
    ]
    narrow, wide = Analysis(metric, cells, N), Analysis(metric, cells, N, 0.1)
    assert narrow.best() == "b-1"
    assert narrow.statement("a-1")["claim"] == "worse"
    assert narrow.statement("b-1")["claim"] == "better"
    assert narrow.recommendation()["overall"] == "b-1"
    assert wide.statement("a-1")["claim"] == "equivalent"
    assert wide.recommendation()["overall"] == "a-1"
    assert "difference -0.050" in wide.recommendation()["text"]


def test_findings_state_pairs_and_series():
    adaptive = cell("adaptive", 100, 10.0, adaptive=True)
    worse = cell("em-at", 100, 30.0, role="matched", matches="adaptive")
    noisy = cell("em-eq", 100, 10.3, noise=5.0, role="matched", matches="adaptive")
    found = Analysis(METRIC, [adaptive, worse, noisy, reference()], N).findings()
    assert len(found) == 3
    assert found[0].startswith(
        "At the same NFE, adaptive is better than em-at: D 10.00 ± 0.01 and 30.00 ± 0.01,"
        " difference -20.00, 95 % confidence interval -20.0"
    )
    assert found[1].startswith("At the same NFE, adaptive and em-eq: undecided at n = 100; about")
    assert found[2].startswith(
        "adaptive is equivalent to em-1000, with 10.0 times fewer evaluations: D 10.00 ± 0.01"
    )
    wide = cell("adaptive", 50, 10.0, noise=30.0, adaptive=True)
    (sentence,) = Analysis(METRIC, [wide, reference()], N).findings()
    assert sentence.startswith("No setting of adaptive is shown to be as good as em-1000")
    bad = cell("adaptive", 50, 99.0, adaptive=True)
    assert Analysis(METRIC, [bad, reference()], N).findings() == [
        "Every setting of adaptive is worse than em-1000 (D 10.00 ± 0.01)."
    ]


def test_numbers_of_samples_are_rounded_up_to_two_digits():
    assert [two_digits(count) for count in (7, 99, 101, 123_456)] == [7, 99, 110, 130_000]


# --- extrapolation -------------------------------------------------------------------------------

DIMENSIONS = 32
VARIANCES = 1 / torch.arange(1, DIMENSIONS + 1, dtype=torch.float64)
MOMENTS = torch.zeros(DIMENSIONS, dtype=torch.float64), torch.diag(VARIANCES)
FRECHET = METRIC | {"dimensions": DIMENSIONS, "digits": 4}


def drawn(n, seed):
    """Exact samples (n, D)."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, DIMENSIONS, dtype=torch.float64, generator=generator)
    return z * VARIANCES.sqrt()


def frechet_cell(name, nfe, x, role="contender"):
    value = frechet(x, *MOMENTS)
    effect = influence(x, *MOMENTS)
    groups = [value + float(part.mean()) for part in torch.tensor_split(effect, GROUPS)]
    quality = summarise([value], groups, [excess(x, *MOMENTS)])
    return cell(name, nfe, value, role=role) | {"quality": {"d": quality}}


def extrapolated(x):
    return frechet(x, *MOMENTS) - excess(x, *MOMENTS)


def z_score(values):
    return fmean(values) / (stdev(values) / len(values) ** 0.5)


def test_too_little_variance_scores_below_exact_samples_but_its_extrapolation_does_not():
    """Samples with 0.978 of the variance: their distance for n to infinity is 0.0005."""
    truth = frechet_distance(MOMENTS[0], 0.978 * MOMENTS[1], *MOMENTS)
    sets = [drawn(200, seed) for seed in range(100)]
    raw = [frechet(0.978**0.5 * x, *MOMENTS) - frechet(x, *MOMENTS) for x in sets]
    limits = [extrapolated(0.978**0.5 * x) - extrapolated(x) for x in sets]
    assert z_score(raw) < -6
    assert z_score(limits) > 2
    assert abs(z_score([value - truth for value in limits])) < 4

    found = [extrapolated(0.978**0.5 * drawn(4000, seed)) for seed in range(40)]
    assert z_score(found) > 4
    assert abs(z_score([value - truth for value in found])) < 4
    assert abs(z_score([extrapolated(drawn(4000, seed)) for seed in range(40)])) < 4


def test_values_below_the_floor_are_explained_and_not_recommended():
    n = 200
    floor = frechet(drawn(n, 1), *MOMENTS)
    cells = [
        frechet_cell("narrow-1", 50, 0.978**0.5 * drawn(n, 1)),
        frechet_cell("em-1000", 1001, drawn(n, 1), role="reference"),
    ]
    assert cells[0]["quality"]["d"]["mean"] < floor
    analysis = Analysis(FRECHET | {"floor": {"mean": floor}}, cells, n)
    assert analysis.statement("narrow-1")["difference"] > 0
    assert analysis.recommendation()["overall"] != "narrow-1"
    sentence = analysis.findings()[-1]
    assert sentence.startswith(f"Below the floor of {floor:.4f}: narrow-1 (")
    assert "They are not better than real samples. Compare D for n → ∞" in sentence


def test_the_margin_is_a_share_of_the_distance_at_50_000_samples():
    n = 2000
    cells = [
        frechet_cell("a-1", 50, drawn(n, 1)),
        frechet_cell("em-1000", 1001, drawn(n, 2) + 0.2, role="reference"),
    ]
    other = cells[1]["quality"]["d"]
    published = limit(other)["mean"] + other["excess"][0] * n / 50_000
    found = Analysis(FRECHET, cells, n).statement("a-1")
    assert found["margin"] == pytest.approx(0.05 * published)
    difference = limit(cells[0]["quality"]["d"])["mean"] - limit(other)["mean"]
    assert found["difference"] == pytest.approx(difference)


def test_with_few_samples_the_effect_of_the_extrapolation_counts_as_an_error():
    n = 50
    cells = [
        frechet_cell("a-1", 50, 0.8 * drawn(n, 1)),
        frechet_cell("em-1000", 1001, drawn(n, 1), role="reference"),
    ]
    few = Analysis(FRECHET, cells, n).statement("a-1")
    trusted = Analysis(FRECHET | {"dimensions": n // 2}, cells, n).statement("a-1")
    by = [c["quality"]["d"]["excess"][0] for c in cells]
    assert few["half"] - trusted["half"] == pytest.approx(abs(by[0] - by[1]))
