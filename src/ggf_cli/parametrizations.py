"""Parametrizations of checkpoints: the score from the output of a network of a known kind.

A parametrization is called with the network, the SDE and its own arguments, and returns the score:
x (B, *), t (B,) -> (B, *). The score of a conditional network takes the conditions of the rows as a
third argument, which the network gets as its third.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ggf_cli.score import ScoreFunction
from ggf_cli.sde import SDE, VPSDE, expand_as_batch

# What a discrete model predicts: the noise, v = alpha eps - sigma x0, or the data.
Prediction = Literal["epsilon", "v_prediction", "sample"]
# How a network of EDM's code becomes a denoiser.
Preconditioning = Literal["edm", "vp", "ve", "iddpm"]


def vp_continuous(network: Callable[..., Tensor], sde: SDE) -> ScoreFunction:
    """-network(x, 999 t) / sigma(t): noise prediction with a continuous label (VP, sub-VP).

    Reference: Song et al. 2021, arXiv:2011.13456, the `continuous` models of their code.
    """

    def score(x: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        return -network(x, 999.0 * t, *conditions) / expand_as_batch(sde.sigma(t), x)

    return score


def ve_continuous(network: Callable[..., Tensor], sde: SDE) -> ScoreFunction:
    """network(x, sigma(t)): NCSN++, which divides by sigma itself and so returns the score (VE)."""

    def score(x: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        return network(x, sde.sigma(t), *conditions)

    return score


def ve_discrete(network: Callable[..., Tensor], sde: SDE) -> ScoreFunction:
    """network(x, 999 (1 - t)) / sigma(t): NCSN++ trained at 1000 noise levels (VE, SMLD).

    The network was trained at the labels k = 0..999, with the noise levels
    sigma_max (sigma_min / sigma_max)^(k / 999), which fall and equal sigma(t) at t = 1 - k / 999.
    Between whole labels the label is interpolated; Song's code rounds it.

    Reference: Song et al. 2021, arXiv:2011.13456, the `ve` models of their code that are not
    `continuous`.
    """

    def score(x: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        return network(x, 999.0 * (1.0 - t), *conditions) / expand_as_batch(sde.sigma(t), x)

    return score


def vp_discrete(network: Callable[..., Tensor], sde: SDE) -> ScoreFunction:
    """-network(x, label) / sigma(t): noise prediction of DDPM, trained at 1000 noise levels (VP).

    The network was trained at the labels k = 0..999, with the noise levels
    sigma_k = sqrt(1 - prod_{i <= k} (1 - beta_i)). The label of t is the k whose level is sigma(t),
    interpolated in log(alpha / sigma) between whole numbers. (Song's code takes k = 999 t, which at
    t_eps is a whole level off: sigma(0.001) = 0.0105 lies just above sigma_0 = 0.01.)

    Reference: Ho et al. 2020, arXiv:2006.11239; Lu et al. 2022, arXiv:2206.00927, appendix D.
    """
    assert isinstance(sde, VPSDE)
    levels = 1000
    betas = torch.linspace(sde.beta_min, sde.beta_max, levels, dtype=torch.float64) / levels
    log_alpha_bar = torch.cumsum(torch.log1p(-betas), 0)
    # It decreases with k.
    half_log_snr = (log_alpha_bar - torch.log(-torch.expm1(log_alpha_bar))) / 2

    def score(x: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        label = _interpolate(sde.half_log_snr(t), half_log_snr.to(t))
        return -network(x, label, *conditions) / expand_as_batch(sde.sigma(t), x)

    return score


def vp_table(
    network: Callable[..., Tensor],
    sde: SDE,
    *,
    betas: Sequence[float],
    prediction: Prediction = "epsilon",
    label_scale: float = 1.0,
) -> ScoreFunction:
    """The score of a discrete model with any betas, by what the network predicts (VP).

        epsilon        -o / sigma
        v_prediction   -(alpha o + sigma x) / sigma
        sample         (alpha o - x) / sigma^2

    The network o was trained at the labels label_scale k, k = 0..K - 1, with the noise levels
    sigma_k = sqrt(1 - prod_{i <= k} (1 - beta_i)). The label of t is the k with the same
    log(alpha / sigma), interpolated between whole numbers: so the SDE may be any with
    alpha^2 + sigma^2 = 1 within the range of the levels. Levels after a beta of 1, which have no
    data left, are not used.

    Args:
        network: The network.
        sde: The SDE.
        betas: The betas of the training, K >= 2 numbers in (0, 1], by rising noise.
        prediction: What the network predicts.
        label_scale: The factor of the labels.

    Reference: Salimans and Ho 2022, arXiv:2202.00512 (v); Lu et al. 2022, arXiv:2206.00927.
    """
    levels = log_snr_table(betas)

    def score(x: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        label = label_scale * _interpolate(sde.half_log_snr(t), levels.to(t))
        output = network(x, label, *conditions)
        alpha, sigma = expand_as_batch(sde.alpha(t), x), expand_as_batch(sde.sigma(t), x)
        if prediction == "epsilon":
            return -output / sigma
        if prediction == "v_prediction":
            return -(alpha * output + sigma * x) / sigma
        return (alpha * output - x) / sigma.square()

    return score


def log_snr_table(betas: Sequence[float]) -> Tensor:
    """log(alpha / sigma) of each noise level of a discrete model, (K,) float64, falling.

    Levels after a beta of 1, where alpha is 0, are left out.

    Raises:
        ValueError: There are fewer than two levels, or a beta is not in (0, 1].
    """
    # On the CPU, also while a network is tried out on the meta device.
    table = torch.as_tensor(betas, dtype=torch.float64, device="cpu")
    if table.dim() != 1 or not ((table > 0) & (table <= 1)).all():
        raise ValueError("the betas must be numbers in (0, 1]")
    log_alpha_bar = torch.cumsum(torch.log1p(-table), 0)
    log_alpha_bar = log_alpha_bar[log_alpha_bar.isfinite()]
    if len(log_alpha_bar) < 2:
        raise ValueError("there must be two betas below 1 at least")
    return (log_alpha_bar - torch.log(-torch.expm1(log_alpha_bar))) / 2


def _interpolate(value: Tensor, falling: Tensor) -> Tensor:
    """The fractional index of each value (B,) in a falling sequence (n,), clamped to 0..n-1."""
    k = torch.searchsorted(-falling, -value).clamp(1, len(falling) - 1)
    before, after = falling[k - 1], falling[k]
    fraction = ((before - value) / (before - after)).clamp(0, 1)
    return (k - 1).to(value.dtype) + fraction


def edm(
    network: Callable[..., Tensor],
    sde: SDE,
    *,
    preconditioning: Preconditioning = "edm",
    sigma_data: float = 0.5,
    beta_d: float = 19.9,
    beta_min: float = 0.1,
    levels: int = 1000,
    noise_levels: Sequence[float] = (),
) -> ScoreFunction:
    """The score of a denoiser of EDM's code: D(y, s) = E[x0 | y], y = x0 + s eps.

    With y = x / alpha and s = sigma / alpha, the score at x is (D(y, s) - y) / (alpha s^2), so the
    model can be used with any SDE. By its preconditioning, with the network F:

        edm     D = c_skip y + s sd F(y / r, ln(s) / 4) / r,  c_skip = sd^2 / r^2,
                r^2 = s^2 + sd^2
        vp      D = y - s F(y / sqrt(1 + s^2), (levels - 1) t),  ln(1 + s^2) = beta_d t^2 / 2 +
                beta_min t
        ve      D = y + s F(y, ln(s / 2))
        iddpm   D = y - s F(y / sqrt(1 + s^2), k),  s = noise_levels[k]

    Between the noise levels of iddpm, k is interpolated in ln(s); beyond them it is the nearest.
    EDM's code rounds s to a level everywhere.

    D - y is computed without the difference, which float32 would round away at small s.

    Args:
        network: The network F.
        sde: The SDE.
        preconditioning: Which of them.
        sigma_data: sd, the standard deviation of the data (edm).
        beta_d: Difference of the largest and the smallest noise rate (vp).
        beta_min: Smallest noise rate (vp).
        levels: Number of labels (vp).
        noise_levels: The noise levels s of the training, rising (iddpm).

    Reference: Karras et al. 2022, arXiv:2206.00364, table 1.
    """
    if preconditioning not in ("edm", "vp", "ve", "iddpm"):
        raise ValueError(f"no preconditioning is called {preconditioning!r:.40}")
    for name, value in (("sigma_data", sigma_data), ("beta_d", beta_d), ("beta_min", beta_min)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} is {value!r:.40}, it must be a positive number")
    table = _negative_logs(noise_levels) if preconditioning == "iddpm" else torch.empty(0)

    def score(x: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        s = sigma / alpha
        if preconditioning == "edm":
            size = torch.sqrt(s.square() + sigma_data**2)
            output = network(x * expand_as_batch(1 / (alpha * size), x), s.log() / 4, *conditions)
            pull = x / expand_as_batch((alpha * size).square(), x)
            return output * expand_as_batch(sigma_data / (sigma * size), x) - pull
        if preconditioning == "ve":
            output = network(x / expand_as_batch(alpha, x), torch.log(s / 2), *conditions)
            return output / expand_as_batch(sigma, x)
        if preconditioning == "iddpm":
            label = _interpolate(-s.log(), table.to(t))
        else:
            log_variance = torch.log1p(s.square())
            time = (torch.sqrt(beta_min**2 + 2 * beta_d * log_variance) - beta_min) / beta_d
            label = (levels - 1) * time
        scaled = x / expand_as_batch(alpha * torch.sqrt(1 + s.square()), x)
        return -network(scaled, label, *conditions) / expand_as_batch(sigma, x)

    return score


def _negative_logs(rising: Sequence[float]) -> Tensor:
    """-log of rising noise levels, (K,) float64.

    Raises:
        ValueError: There are fewer than two levels, or they are not positive, finite and rising.
    """
    # On the CPU, as in `log_snr_table`.
    table = torch.as_tensor(rising, dtype=torch.float64, device="cpu")
    if table.dim() != 1 or len(table) < 2:
        raise ValueError("there must be two noise levels at least")
    if not (table[0] > 0 and table[-1] < math.inf and (table.diff() > 0).all()):
        raise ValueError("the noise levels must be positive numbers, each above the one before")
    return -table.log()


def exact(network: Callable[..., Tensor], sde: SDE) -> ScoreFunction:
    """network(x, alpha(t), sigma(t)): a distribution whose exact score is known."""

    def score(x: Tensor, t: Tensor) -> Tensor:
        return network(x, sde.alpha(t), sde.sigma(t))

    return score


@dataclass(frozen=True)
class Parametrization:
    """A conversion of network output to the score: parametrization(network, sde, config).

    Attributes:
        wrap: Makes the score function from network, SDE and the arguments in the configuration.
        sdes: The names of the SDEs that it supports.
    """

    wrap: Callable[..., ScoreFunction]
    sdes: tuple[str, ...]

    def __call__(
        self, network: Callable[..., Tensor], sde: SDE, config: Mapping[str, Any] | None = None
    ) -> ScoreFunction:
        return self.wrap(network, sde, **(config or {}))


PARAMETRIZATIONS: dict[str, Parametrization] = {
    "vp-continuous": Parametrization(vp_continuous, ("vp", "subvp")),
    "vp-discrete": Parametrization(vp_discrete, ("vp",)),
    "vp-table": Parametrization(vp_table, ("vp",)),
    "ve-continuous": Parametrization(ve_continuous, ("ve",)),
    "ve-discrete": Parametrization(ve_discrete, ("ve",)),
    "edm": Parametrization(edm, ("edm", "ve", "vp", "subvp", "cosine", "flow")),
    "exact": Parametrization(exact, ("ve", "vp", "subvp")),
}
