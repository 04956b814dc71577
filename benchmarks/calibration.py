"""Simulate the statistics of `ggf compare` on exact models: how often is each statement true?

    python benchmarks/calibration.py

Each scenario has pools of samples, one for each setting, whose rows are paired as in a comparison.
A pool is the whole population: its moments, and so its Fréchet distance for n -> infinity, are
known exactly. A simulated comparison draws n rows, the same in every pool, evaluates them as
`ggf compare` does, and makes its statements and its recommendation. They are then compared with the
distances of the pools.

    solvers        real solvers on the Fashion-MNIST mixture, in the features of FFD; the reference
                   is em with 400 steps, and the distance is that to the exact samples
    solvers, FFD   the same samples, with the distance to real images, which is larger
    equal          every setting has the distance of the reference, from samples of its own
    edge           every setting is worse than the reference by just more than the margin
    ladder         settings from better than the reference to much worse
    exact          the reference is exact, the others have 0.978 of its variance, or less
    small n        as exact, with fewer samples than twice the number of features

A comparison has the statements of all settings. "False" is the share of comparisons with a false
statement of that kind; 5 % is allowed for all kinds together.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from ggf_cli import load_model, sample
from ggf_cli.comparison import equivalence
from ggf_cli.comparison.analysis import MARGIN, PUBLISHED_SAMPLES, Analysis, summarise
from ggf_cli.metrics.evaluator import GROUPS, FeatureSpace, make_evaluators
from ggf_cli.metrics.frechet import excess, frechet, frechet_distance, influence, moments

ROWS = 40_000
# Settings beside the reference, as of `ggf compare adaptive em`.
SETTINGS = 8
CLAIMS = ("better", "equivalent", "not worse", "worse", "undecided")
Moments = tuple[Tensor, Tensor]


class Scenario:
    """Pools of samples, and the exact distances of the settings to the reference moments.

    Args:
        pools: (N, D) for each setting by rising cost; the last one is the baseline.
        target: The moments that the samples should have.
        margin: The margin of the statements.
    """

    def __init__(self, pools: list[Tensor], target: Moments, margin: float = MARGIN) -> None:
        self.pools, self.target, self.margin = pools, target, margin
        self.truth = [frechet(pool, *target) for pool in pools]
        # The excess is proportional to 1 / n.
        rows = pools[-1][: min(4000, len(pools[-1]))]
        per_sample = excess(rows, *target) * len(rows)
        self.width = margin * (self.truth[-1] + per_sample / PUBLISHED_SAMPLES)

    def compare(self, n: int, generator: torch.Generator) -> tuple[Counter[str], list[float]]:
        """Simulate a comparison: count its statements, and find the widths of its intervals."""
        # With replacement: the pool is the population.
        rows = torch.randint(len(self.pools[0]), (n,), generator=generator)
        cells = [self._cell(place, pool[rows]) for place, pool in enumerate(self.pools)]
        metric = {"name": "d", "title": "D", "lower_is_better": True, "digits": 3}
        metric["dimensions"] = self.pools[0].shape[1]
        analysis = Analysis(metric, cells, n, self.margin)
        counts: Counter[str] = Counter()
        halves = []
        for place, cell in enumerate(cells[:-1]):
            found = analysis.statement(cell["id"])
            assert found is not None
            halves.append(found["half"])
            counts[found["claim"]] += 1
            if not self._is_true(found["claim"], self.truth[place] - self.truth[-1]):
                counts[f"false {found['claim']}"] += 1
        advice = analysis.recommendation()
        assert advice is not None
        if (chosen := advice["overall"]) is not None:
            counts["recommended"] += 1
            loss = self.truth[int(chosen)] - self.truth[-1]
            counts["false recommended"] += loss > self.width
        return counts, halves

    def _is_true(self, claim: str, difference: float) -> bool:
        return {
            "better": difference < 0,
            "equivalent": abs(difference) <= self.width,
            "not worse": difference <= self.width,
            "worse": difference > 0,
            "undecided": True,
        }[claim]

    def _cell(self, place: int, features: Tensor) -> dict[str, Any]:
        """The entry of a setting in compare.json, as far as the analysis reads it."""
        value = frechet(features, *self.target)
        effect = influence(features, *self.target)
        groups = [value + float(p.mean()) for p in torch.tensor_split(effect, GROUPS)]
        quality = summarise([value], groups, [excess(features, *self.target)])
        return {
            "id": str(place),
            "label": str(place),
            "series": "s",
            "role": "reference" if place == len(self.pools) - 1 else "contender",
            "matches": None,
            "adaptive": False,
            "nfe": {"mean": 10 + place},
            "quality": {"d": quality},
            "runs": ["0"],
        }


def paired(base: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Rows of which a share are those of `base`, and the others are other rows of it."""
    keep = torch.rand(len(base), 1, generator=generator) < share
    return torch.where(keep, base, base[torch.randperm(len(base), generator=generator)])


def shifted(pool: Tensor, target: Moments, distance: float, *, spread: float = 1.0) -> Tensor:
    """The pool, scaled by `spread` and moved so that its distance is as given."""
    mean, covariance = moments(pool)
    scaled = mean + spread * (pool - mean)
    rest = frechet_distance(mean, spread**2 * covariance, mean, target[1])
    direction = covariance.diagonal().sqrt()
    direction = direction / direction.norm()
    return scaled - mean + target[0] + direction * max(0.0, distance - rest) ** 0.5


def scenarios(features: Tensor, solved: list[Tensor]) -> dict[str, tuple[Scenario, list[int]]]:
    """All scenarios with their numbers of samples, from exact features and those of solvers."""
    g = torch.Generator().manual_seed(1)
    target = moments(features)
    own = [paired(features, 0.5, g) for _ in range(SETTINGS)]
    # The value of a good solver on fashion-vp is several times the floor.
    far = 7.0
    width = MARGIN * (far + excess(features[:4000], *target) * 4000 / PUBLISHED_SAMPLES)
    steps = (40.0, 10.0, 4.0, 2.0, 1.05, 0.5, 0.0, -2.0)
    spreads = (0.7, 0.8, 0.9, 0.95, 0.978, 0.978, 0.99, 0.999)

    def worse_by(amount: Callable[[int], float]) -> list[Tensor]:
        pools = [shifted(p, target, far + amount(i) * width) for i, p in enumerate(own)]
        return [*pools, shifted(features, target, far)]

    narrow = [target[0] + s**0.5 * (p - target[0]) for s, p in zip(spreads, own, strict=True)]
    found = {}
    if solved:
        found["solvers"] = (Scenario(solved, target), [260, 1000, 4000])
        real = ffd_space().reference.moments()
        found["solvers, FFD"] = (Scenario(solved, real), [260, 1000, 4000])
    return found | {
        "equal": (Scenario(worse_by(lambda _: 0.0), target), [260, 1000, 10_000]),
        "edge": (Scenario(worse_by(lambda _: 1.02), target), [260, 1000, 10_000]),
        "edge, 20 %": (Scenario(worse_by(lambda _: 4.08), target, 0.2), [4000]),
        "ladder": (Scenario(worse_by(lambda i: steps[i]), target), [260, 1000, 10_000]),
        "exact": (Scenario([*narrow, features], target), [260, 1000, 4000]),
        "small n": (Scenario([*narrow, features], target), [100]),
    }


@cache
def ffd_space() -> FeatureSpace:
    """The feature space of FFD, with the moments of real images."""
    return make_evaluators(["ffd"], load_model("fashion-mixture"))[0].features.space


def fashion_features(images: Tensor) -> Tensor:
    """Features of the classifier of FFD, (N, 64) float64."""
    space = ffd_space()
    return torch.cat([space.features(part) for part in images.split(2000)]).double()


def solve(rows: int) -> list[Tensor]:
    """Features of samples of real solvers, by rising cost; the last one is the baseline."""
    model = load_model("fashion-mixture")
    settings: list[tuple[str, dict[str, Any]]] = [
        ("em", {"steps": 20}),
        ("adaptive-multistep", {"eps_rel": 0.05}),
        ("dpmpp-2m-sde", {"steps": 20}),
        ("er-sde-3", {"steps": 20}),
        ("em", {"steps": 50}),
        ("dpmpp-2m-sde", {"steps": 40}),
        ("em", {"steps": 100}),
        ("em", {"steps": 200}),
        ("em", {"steps": 400}),
    ]
    found = []
    for solver, options in settings:
        started = time.perf_counter()
        drawn = sample(model, rows, solver=solver, batch_size=1000, **options)
        found.append(fashion_features(drawn.images))
        print(f"{solver} {options}: {time.perf_counter() - started:.0f} s", flush=True)
    return found


def main() -> None:
    """Print one row for each scenario and number of samples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of a pool")
    parser.add_argument(
        "--solved", type=int, default=3000, help="samples of each real solver; 0: none"
    )
    parser.add_argument("--each", action="store_true", help="intervals for each statement alone")
    parser.add_argument("--only", help="one scenario")
    chosen = parser.parse_args()
    if chosen.each:
        equivalence.ERROR = 0.05 * SETTINGS
    torch.set_num_threads(1)
    model = load_model("fashion-mixture")
    assert model.distribution is not None
    generator = torch.Generator().manual_seed(0)
    images = model.distribution.sample(chosen.rows, generator).reshape(-1, *model.shape)
    exact = fashion_features(((images + 1) / 2).clamp(0, 1))
    solved = solve(chosen.solved) if chosen.solved else []
    print("\nscenario | n | % of statements:", " | ".join(CLAIMS), end=" | ")
    print("% of comparisons with a false: better, equivalent, not worse, worse, any", end=" | ")
    print("recommended % | outside the margin % | mean half-width / margin")
    for name, (scenario, sizes) in scenarios(exact, solved).items():
        for n in sizes if chosen.only in (None, name) else ():
            report(name, n, scenario, chosen.repeats)


def report(name: str, n: int, scenario: Scenario, repeats: int) -> None:
    """Simulate comparisons of n samples, and print their row."""
    generator = torch.Generator().manual_seed(n)
    found = [scenario.compare(n, generator) for _ in range(repeats)]
    total = sum((counts for counts, _ in found), Counter[str]())
    made = len(scenario.pools) - 1
    shares = [f"{100 * total[claim] / made / repeats:.0f}" for claim in CLAIMS]
    kinds = [f"false {claim}" for claim in CLAIMS[:-1]]
    false = [sum(counts[kind] > 0 for counts, _ in found) for kind in kinds]
    false.append(sum(any(counts[kind] for kind in kinds) for counts, _ in found))
    half = fmean(half for _, halves in found for half in halves)
    print(
        f"| {name} | {n:,} | {' | '.join(shares)} |",
        " | ".join(f"{100 * count / repeats:.1f}" for count in false),
        f"| {100 * total['recommended'] / repeats:.0f}",
        f"| {100 * total['false recommended'] / repeats:.1f} | {half / scenario.width:.1f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
