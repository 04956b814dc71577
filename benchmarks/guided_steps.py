"""Do steps of their own pay for samples of different labels? For docs/research/LOG.md.

    python benchmarks/guided_steps.py [--n 240] [--model plane]

The models are exact mixtures with labels, with and without guidance. The method is
`adaptive-multistep` (eta = 1), with three kinds of steps: each sample's own, by the step size
control; the mean steps of a pilot of all labels; the mean steps of a pilot of each label. The error
of a sample is its distance to the converged solution on the same Brownian path, so the kinds are
paired sample by sample. Errors are compared at equal NFE, by interpolation in log NFE and log error
of the geometric mean and of the root mean square over samples.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import numpy as np
import torch
from torch import Tensor

import ggf_cli
from ggf_cli.counted_score import CountedScore
from ggf_cli.networks.mixture import GaussianMixture
from ggf_cli.per_sample import repeated_labels
from ggf_cli.score import ScoreModel
from ggf_cli.sde import SDE
from ggf_cli.solvers.adaptive_multistep import (
    EXPONENT,
    GROWTH,
    H_FIRST,
    JACOBIAN,
    SAFETY,
    SHRINK,
    missed_share,
)

TOLERANCES = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
H_MAX = 1.0
# Samples of the pilot of each label; they are not among the measured ones.
PILOT = 16
# Points of the grid of lambda, which are the steps of the converged solution.
FINE = 1200
RESAMPLES = 400
# NFE and error of each sample, for each tolerance.
Points = list[tuple[np.ndarray, np.ndarray]]
Statistic = Callable[[np.ndarray], float]


def part(mixture: GaussianMixture, components: Sequence[int]) -> GaussianMixture:
    """The mixture of some components."""
    keep = torch.tensor(components)
    rank = mixture.directions.shape[2]
    found = GaussianMixture(shape=mixture.shape, components=len(keep), rank=rank)
    for name in ("mean", "variance", "directions", "scales"):
        getattr(found, name).copy_(getattr(mixture, name)[keep])
    found.weight.copy_(mixture.weight[keep] / mixture.weight[keep].sum())
    return found.double()


def plane() -> tuple[GaussianMixture, list[list[int]]]:
    """Four classes of the plane: wide, narrow, six narrow modes on a ring, a line."""
    ring = torch.arange(6) * torch.pi / 3
    means = [torch.tensor([[-0.6, 0.6], [0.6, 0.6]])]
    means += [0.3 * torch.stack([ring.cos(), ring.sin()], 1) + torch.tensor([0.5, -0.5])]
    means += [torch.tensor([[-0.6, -0.5]])]
    mixture = GaussianMixture(shape=(2,), components=9, rank=1)
    mixture.mean.copy_(torch.cat(means))
    mixture.variance.copy_(torch.tensor([0.3, 0.02, *[0.02] * 6, 0.02]).square())
    mixture.directions.copy_(torch.tensor([[1.0, 0.0]]).repeat(9, 1)[..., None])
    mixture.scales[8] = 0.3
    mixture.weight.copy_(torch.tensor([1, 1, *[1 / 6] * 6, 1]) / 4)
    return mixture, [[0], [1], [2, 3, 4, 5, 6, 7], [8]]


def grouped(name: str, groups: int) -> tuple[GaussianMixture, list[list[int]]]:
    """An embedded mixture whose components are grouped by the brightness of their means."""
    mixture = ggf_cli.load_model(name, device="cpu").distribution
    order = mixture.mean.mean(1).argsort().tolist()
    return mixture, [list(group) for group in np.array_split(order, groups)]


MODELS = {
    "plane": plane,
    "mixture": partial(grouped, "mixture", 4),
    "fashion-mixture": partial(grouped, "fashion-mixture", 10),
}


def labelled(mixture: GaussianMixture, classes: list[list[int]], sde: SDE) -> ScoreModel:
    """The model of the classes; the label after the last one is the whole mixture."""
    parts = [part(mixture, components) for components in classes]
    parts.append(part(mixture, range(len(mixture.weight))))

    def score(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        answer = torch.empty_like(x)
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        for k in label.unique().tolist():
            rows = (label == k).nonzero().flatten()
            answer[rows] = parts[k](x[rows], alpha[rows], sigma[rows])
        return answer

    return ScoreModel(
        score=score,
        sde=sde,
        shape=mixture.shape,
        dtype=torch.float64,
        conditional=True,
        null_condition=len(classes),
    )


class Path:
    """Brownian paths of samples on a fine grid of lambda = log(alpha / sigma), for the reverse SDE.

    The noise of a step from lambda_s to lambda is l^2 [B(1 / l^2) - B(1 / l_s^2)] in y = x / alpha,
    with l = sigma / alpha. So steps of any sizes use one path, and their errors are paired.

    Args:
        sde: The SDE.
        n: Samples.
        size: Elements of a sample.
        seed: The seed of the paths.
    """

    def __init__(self, sde: SDE, n: int, size: int, seed: int) -> None:
        ends = sde.half_log_snr(torch.tensor([sde.T, sde.t_eps], dtype=torch.float64))
        self.levels = torch.lerp(ends[0], ends[1], torch.linspace(0, 1, FINE + 1).double())
        self.l = torch.exp(-self.levels)
        spread = self.l.square().reciprocal().diff().sqrt().float()
        generator = torch.Generator().manual_seed(seed)
        self.start = self.l[0] * torch.randn(n, size, generator=generator).double()
        self.paths = torch.zeros(FINE + 1, n, size)
        for j in range(FINE):
            fresh = torch.randn(n, size, generator=generator)
            self.paths[j + 1] = self.paths[j] + spread[j] * fresh

    def noise(self, rows: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """The noise of the steps from grid points `start` to `end`, (k, D), of the rows (k,)."""
        increment = self.paths[end, rows] - self.paths[start, rows]
        return self.l[end].square()[:, None] * increment.double()


# The next grid point of rows, given their number of steps, point, last width and error.
Policy = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def solve(
    model: ScoreModel, index: Tensor, path: Path, policy: Policy
) -> tuple[Tensor, np.ndarray, list[list[int]]]:
    """`adaptive-multistep` on given paths: final samples, NFE, and the grid points of each sample.

    Args:
        model: The model, with conditions.
        index: The sample index of each row of the path, which selects its label.
        path: The Brownian paths.
        policy: Chooses the next grid point.
    """
    score = CountedScore(model)
    score.open_slots(len(index), torch.device("cpu"))
    n, sde = len(index), model.sde
    times = sde.time_at(path.levels)
    y, data = path.start.clone(), torch.zeros_like(path.start)
    at, width, count = torch.zeros(n).long(), torch.zeros(n).double(), torch.zeros(n).long()
    visits = [[0] for _ in range(n)]
    nfe, deviation = torch.zeros(n), path.start.shape[1] ** 0.5 / 2
    running = torch.arange(n)
    while len(running):
        r, here = running, at[running]
        score.conditions = model.conditions(index[r])
        score.open_slots(len(r), torch.device("cpu"))
        t = times[here]
        x = (sde.alpha(t)[:, None] * y[r]).reshape(len(r), *model.shape)
        answer = sde.tweedie_denoise(x, t, score(x, t)).flatten(1)
        nfe[r] += score.nfe
        # The correction of the last step, and its error: `ggf_cli.solvers.adaptive_multistep`.
        k = missed_share(2 * width[r])[:, None]
        visible = (deviation**2 / (deviation**2 + path.l[here].square()))[:, None]
        change = answer - data[r]
        error = (visible * k)[:, 0] * change.square().mean(1).sqrt()
        shift = k / (1 - JACOBIAN * visible * k) * change
        y[r] += shift
        data[r] = answer + JACOBIAN * visible * shift
        arrived = here == FINE
        y[r[arrived]] = answer[arrived]
        r, here, error = r[~arrived], here[~arrived], error[~arrived]
        to = policy(r, count[r], here, width[r], error).clamp(max=FINE)
        step = path.levels[to] - path.levels[here]
        keep = torch.exp(-2 * step)[:, None]
        y[r] = keep * y[r] + (1 - keep) * data[r] + path.noise(r, here, to)
        at[r], width[r] = to, step
        count[r] += 1
        for row, point in zip(r.tolist(), to.tolist(), strict=True):
            visits[row].append(point)
        running = r
    return y, nfe.numpy(), visits


def own_steps(path: Path, eps_rel: float) -> Policy:
    """The step size control of `adaptive-multistep`, on the grid."""
    spacing = float(path.levels[1] - path.levels[0])

    def policy(r: Tensor, count: Tensor, here: Tensor, width: Tensor, error: Tensor) -> Tensor:
        factor = SAFETY * torch.exp(-EXPONENT * torch.log(error / (2 * eps_rel)))
        wanted = torch.where(count == 0, H_FIRST, factor.clamp(SHRINK, GROWTH) * width)
        return here + (wanted.clamp(max=H_MAX) / spacing).round().long().clamp(min=1)

    return policy


def given_steps(points: Tensor) -> Policy:
    """Grid points that are given: for all rows, (K,), or for each, (n, K)."""

    def policy(r: Tensor, count: Tensor, here: Tensor, width: Tensor, error: Tensor) -> Tensor:
        return points[count + 1] if points.dim() == 1 else points[r, count + 1]

    return policy


def mean_points(visits: list[list[int]]) -> Tensor:
    """The mean of schedules at equal shares of their steps, as `ggf_cli.pilot.mean_schedule`."""
    steps = round(sum(len(visit) - 1 for visit in visits) / len(visits))
    shares = np.linspace(0, 1, steps + 1)
    paths = [np.interp(shares, np.linspace(0, 1, len(visit)), visit) for visit in visits]
    return torch.from_numpy(np.mean(paths, 0).round()).long()


def errors(model: ScoreModel, labels: int, path: Path, pilot: Path) -> dict[str, Points]:
    """{kind of steps: [(NFE of each sample, error of each sample) for each tolerance]}."""
    n = path.start.shape[0]
    index, first = torch.arange(n), torch.arange(pilot.start.shape[0])
    fine = given_steps(torch.arange(FINE + 1))
    converged, _, _ = solve(model, index, path, fine)
    found: dict[str, Points] = {"own": [], "model": [], "label": []}
    for eps_rel in TOLERANCES:
        _, _, visits = solve(model, first, pilot, own_steps(pilot, eps_rel))
        of_label = [mean_points(visits[label::labels]) for label in range(labels)]
        longest = max(map(len, of_label))
        padded = [torch.cat([p, p[-1:].expand(longest - len(p))]) for p in of_label]
        policies = {
            "own": own_steps(path, eps_rel),
            "model": given_steps(mean_points(visits)),
            "label": given_steps(torch.stack(padded)[index % labels]),
        }
        for kind, policy in policies.items():
            x, nfe, _ = solve(model, index, path, policy)
            found[kind].append((nfe, (x - converged).square().mean(1).sqrt().numpy()))
    return found


def geometric_mean(error: np.ndarray) -> float:
    """The geometric mean, which a few samples in another mode do not decide."""
    return float(np.exp(np.log(error).mean()))


def rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.square(error).mean()))


def log_ratio(one: Points, other: Points, rows: np.ndarray, statistic: Statistic) -> float:
    """Mean log of error `one` / error `other` at equal NFE, over the range of both."""

    def curve(points: Points) -> tuple[np.ndarray, np.ndarray]:
        found: list[tuple[float, float]] = []
        for calls, error in points:
            nfe = float(np.log(calls[rows].mean()))
            # Large tolerances may give the same schedule.
            found = [point for point in found if point[0] < nfe]
            found.append((nfe, math.log(statistic(error[rows]))))
        nfes, logs = zip(*found, strict=True)
        return np.array(nfes), np.array(logs)

    (nfe, error), (nfe_other, error_other) = curve(one), curve(other)
    inside = (nfe_other >= nfe[0]) & (nfe_other <= nfe[-1])
    return float((np.interp(nfe_other, nfe, error) - error_other)[inside].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=256, help="samples, a multiple of the labels")
    parser.add_argument("--model", choices=MODELS, action="append")
    arguments = parser.parse_args()
    sde, rng = ggf_cli.VPSDE(), np.random.default_rng(0)
    guidances = [(1.0, None), (2.0, None), (4.0, None), (4.0, (0.3, 3.0))]
    for name in arguments.model or MODELS:
        mixture, classes = MODELS[name]()
        labels = len(classes)
        n = arguments.n // labels * labels
        size = math.prod(mixture.shape)
        path, pilot = Path(sde, n, size, seed=0), Path(sde, PILOT * labels, size, seed=1)
        plain = labelled(mixture, classes, sde)
        whole = [("no labels", plain.with_conditions(repeated_labels([labels], "none")))]
        for scale, interval in guidances:
            text = f"guidance {scale:g}" + (f" in {interval}" if interval else "")
            given = repeated_labels(range(labels), "all")
            model = plain.with_conditions(given, guidance=scale, guidance_interval=interval)
            whole.append((text, model))
        for text, model in whole:
            found = errors(model, labels, path, pilot)
            nfe = found["own"][2][0]
            of_label = [nfe[label::labels] for label in range(labels)]
            between = np.std([calls.mean() for calls in of_label]) / nfe.mean()
            within = np.sqrt(np.mean([calls.var() for calls in of_label])) / nfe.mean()
            print(
                f"{name}, {text}: NFE varies by {between:.1%} between labels, {within:.1%} within"
            )
            for kind, points in found.items():
                row = [
                    f"{calls.mean():.1f}: {geometric_mean(error):.1e}, {rms(error):.1e}"
                    for calls, error in points
                ]
                print(f"  {kind:6}", " | ".join(row))
            draws = [rng.integers(0, n, n) for _ in range(RESAMPLES)]
            for kind, statistic in product(("model", "label"), (geometric_mean, rms)):
                ratio = partial(log_ratio, found[kind], found["own"], statistic=statistic)
                low, high = np.exp(np.quantile([ratio(rows) for rows in draws], [0.025, 0.975]))
                print(
                    f"  {statistic.__name__} error, steps of the {kind} / own steps:"
                    f" {np.exp(ratio(np.arange(n))):.2f} (95 %: {low:.2f} to {high:.2f})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
