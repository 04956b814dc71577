"""Exact models: Gaussian mixtures with their score, moments, and probability flow.

Under the true distribution these functions of a sample x have the mean 0, for each component k:

    r_k - w_k,    r_k y_k / w_k,    r_k (y_k y_k^T - I) / w_k

where r_k(x) is the posterior of component k, w_k its weight, and y_k(x) is x standardised by mean
and covariance of k. So their averages are the errors of class weights, class means (in standard
deviations) and class covariances (relative). Their standard errors are those of exact samples.
In more than two dimensions the coordinates from the third on are pooled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from ggf_cli.networks.mixture import GaussianMixture, two_dimensional
from ggf_cli.registry import SDE_TITLES
from ggf_cli.sde import SDE, VESDE, VPSDE, expand_as_batch

# Mean and standard deviation of the Gaussian on which orders are measured. With a large mean its
# discretisation error is large beside chance.
MEAN, STD = 2.0, 0.5
# Coordinates whose moments are tested one by one; the others are pooled.
PLANE = 2
# Numbers of the exact samples from which the standard errors of the statistics are estimated.
_CALIBRATION = 400_000


@dataclass(frozen=True, eq=False)
class Problem:
    """A data distribution with its exact score under an SDE, in float64."""

    name: str
    mixture: GaussianMixture
    sde: SDE

    @property
    def title(self) -> str:
        """The name of the problem in tables."""
        return f"{self.name}, {SDE_TITLES[self.sde.name]}"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mixture.shape

    @torch.no_grad()
    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """The exact score of the noisy data at x (B, D), t (B,)."""
        answer: Tensor = self.mixture(x, self.sde.alpha(t), self.sde.sigma(t))
        return answer

    def ending_at(self, t_eps: float) -> Problem:
        """The same problem with the end of the reverse solve at t_eps."""
        return replace(self, sde=replace(self.sde, t_eps=t_eps))


def names_of_statistics(mixture: GaussianMixture) -> list[str]:
    """The names of the columns of `statistics`."""
    size = mixture.mean.shape[1]
    names = []
    for k in range(len(mixture.weight)):
        of = f" of class {k + 1}" if len(mixture.weight) > 1 else ""
        names += [f"weight{of}"] if of else []
        names += [f"mean {i + 1}{of}" for i in range(PLANE)]
        names += [f"covariance {i + 1}{j + 1}{of}" for i in range(PLANE) for j in range(i, PLANE)]
        names += [f"{what} of the others{of}" for what in ("mean", "covariance") if size > PLANE]
    return names


def statistics(mixture: GaussianMixture, x: Tensor) -> Tensor:
    """Functions of each sample with mean 0 under the true distribution: (n, D) -> (n, S)."""
    upper = torch.triu_indices(PLANE, PLANE)
    standardised, log_density = [], []
    for mean, covariance in zip(mixture.mean, covariances(mixture), strict=True):
        factor = torch.linalg.cholesky(covariance)
        y = torch.linalg.solve_triangular(factor, (x - mean).T, upper=False).T
        standardised.append(y)
        log_density.append(-y.square().sum(1) / 2 - torch.log(factor.diagonal()).sum())
    log_weight = torch.log(mixture.weight)
    posterior = torch.softmax(torch.stack(log_density, 1) + log_weight, 1)
    columns = []
    for k, y in enumerate(standardised):
        weight, r = mixture.weight[k], posterior[:, k, None]
        if len(standardised) > 1:
            columns.append(r - weight)
        products = y[:, upper[0]] * y[:, upper[1]] - (upper[0] == upper[1]).to(y)
        columns += [r * y[:, :PLANE] / weight, r * products / weight]
        if y.shape[1] > PLANE:
            others = y[:, PLANE:]
            columns.append(r * others.mean(1, keepdim=True) / weight)
            columns.append(r * (others.square().mean(1, keepdim=True) - 1) / weight)
    return torch.cat(columns, 1)


def covariances(mixture: GaussianMixture) -> Tensor:
    """The covariance of each component, (K, D, D)."""
    factors = mixture.directions * mixture.scales[:, None]
    isotropic = torch.eye(factors.shape[1], dtype=factors.dtype)
    return mixture.variance[:, None, None] * isotropic + factors @ factors.mT


@lru_cache(maxsize=8)
def spread(mixture: GaussianMixture) -> Tensor:
    """Standard deviations of `statistics` under the true distribution, (S,)."""
    generator = torch.Generator().manual_seed(0)
    n = max(_CALIBRATION // mixture.mean.shape[1], 20_000)
    return statistics(mixture, mixture.sample(n, generator)).std(0)


def flow(sde: SDE, x: Tensor, start: float, end: float) -> Tensor:
    """The exact probability flow of Gaussian data N(MEAN, STD^2 I) from `start` to `end`.

    Standardised data do not change along the flow. At `end` = 0 the data have no noise.
    """
    (alpha, sigma), (alpha_end, sigma_end) = levels(sde, start), levels(sde, end)
    ratio = math.hypot(alpha_end * STD, sigma_end) / math.hypot(alpha * STD, sigma)
    return alpha_end * MEAN + ratio * (x - alpha * MEAN)


def denoised(sde: SDE, x: Tensor, t: float) -> Tensor:
    """E[x(0) | x(t) = x] for Gaussian data N(MEAN, STD^2 I)."""
    alpha, sigma = levels(sde, t)
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    return MEAN + gain * (x - alpha * MEAN)


def levels(sde: SDE, t: float) -> tuple[float, float]:
    """alpha and sigma at t; (1, 0) at t = 0, where VE has the noise sigma_min."""
    if t == 0:
        return 1.0, 0.0
    time = torch.tensor([t], dtype=torch.float64)
    return float(sde.alpha(time)), float(sde.sigma(time))


def standardised_at(problem: Problem, x: Tensor, t: Tensor) -> Tensor:
    """x (n, D) at times t (n,), standardised by the exact marginal of a problem of one component.

    Every direction is scaled by its own standard deviation, and directions stay as they are.
    """
    alpha, sigma = problem.sde.alpha(t), problem.sde.sigma(t)
    variance = covariances(problem.mixture)[0].diagonal()
    std = (alpha.square()[:, None] * variance + sigma.square()[:, None]).sqrt()
    return (x - expand_as_batch(alpha, x) * problem.mixture.mean[0]) / std


def gaussian(sde: SDE, size: int = PLANE) -> Problem:
    """A Gaussian with non-zero mean, whose first two coordinates are correlated."""
    exact = GaussianMixture(shape=(size,), components=1, rank=1)
    exact.double()
    exact.mean[:, :PLANE] = torch.tensor([[0.3, -0.6]], dtype=torch.float64)
    exact.variance.fill_(0.04)
    exact.directions[:, :PLANE, 0] = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    exact.scales.fill_(0.4)
    return Problem("Gaussian", exact, sde)


def mixture(sde: SDE, size: int = PLANE) -> Problem:
    """Three Gaussians with the weights 0.5, 0.3 and 0.2, whose means lie in a plane."""
    plane = two_dimensional().double()
    exact = GaussianMixture(shape=(size,), components=len(plane.weight), rank=1).double()
    # In float32 weights do not add up to 1 exactly, and directions are not exactly of length 1.
    exact.weight.copy_(plane.weight / plane.weight.sum())
    exact.mean[:, :PLANE] = plane.mean
    exact.variance.copy_(plane.variance)
    exact.directions[:, :PLANE] = plane.directions / plane.directions.norm(dim=1, keepdim=True)
    exact.scales.copy_(plane.scales)
    return Problem("mixture", exact, sde)


def line(sde: SDE) -> Problem:
    """Data on a line in the plane, x_2 = 0: everything in x_2 of a sample is noise."""
    exact = GaussianMixture(shape=(2,), components=1, rank=1)
    exact.variance.fill_(1e-10)
    exact.directions.copy_(torch.tensor([[[1.0], [0.0]]]))
    exact.scales.fill_(0.5)
    return Problem("line", exact.double(), sde)


def isotropic(sde: SDE, size: int) -> Problem:
    """Independent coordinates N(MEAN, STD^2), on which orders are measured."""
    exact = GaussianMixture(shape=(size,), components=1)
    exact.double()
    exact.mean.fill_(MEAN)
    exact.variance.fill_(STD**2)
    return Problem("Gaussian", exact, sde)


SDES: dict[str, SDE] = {"vp": VPSDE(), "ve": VESDE()}
