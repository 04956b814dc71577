"""Analytic problems: scores known in closed form, in any dimension and precision."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ggf_cli.score import ScoreModel
from ggf_cli.sde import SDE, VESDE, VPSDE, SubVPSDE, expand_as_batch
from ggf_cli.solvers.catalog import read_catalog

# Mean and standard deviation of the Gaussian data.
MEAN, STD = 0.3, 0.5

VP = VPSDE()
VE = VESDE(sigma_min=0.01, sigma_max=50.0)
SUBVP = SubVPSDE()

every_sde = pytest.mark.parametrize("sde", [VP, VE, SUBVP], ids=lambda sde: sde.name)


def each_sde(vp: SDE = VP, ve: SDE = VE, subvp: SDE = SUBVP) -> pytest.MarkDecorator:
    """Parametrize a long test by SDE. Sub-VP, which is VP with less noise, is marked slow."""
    slow = pytest.param(subvp, marks=pytest.mark.slow)
    return pytest.mark.parametrize("sde", [vp, ve, slow], ids=lambda sde: sde.name)


def gaussian_score(sde: SDE) -> Callable[[Tensor, Tensor], Tensor]:
    """The exact score of data N(MEAN, STD^2 I)."""

    def score(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        variance = expand_as_batch(alpha.square() * STD**2 + sigma.square(), x)
        return (expand_as_batch(alpha, x) * MEAN - x) / variance

    return score


def gaussian_model(
    sde: SDE, shape: tuple[int, ...] = (1, 4, 4), dtype: torch.dtype = torch.float64
) -> ScoreModel:
    """A model with the exact score of the Gaussian data."""
    return ScoreModel(score=gaussian_score(sde), sde=sde, shape=shape, dtype=dtype, name="gaussian")


def quick_options(name: str) -> dict[str, object]:
    """Options with which a solver takes few steps."""
    options = read_catalog()[name].options
    if "steps" in options:
        return {"steps": 7}
    tolerance = 0.6 if name.startswith("sra") else 0.25
    return {"eps_rel": tolerance, "eps_abs": tolerance}


def prior(sde: SDE, *, seed: int = 0, rows: int = 1, size: int = 16) -> Tensor:
    """Draw float64 rows of pure noise, where sampling starts."""
    return sde.prior_std * normal(rows, size, seed=seed, dtype=torch.float64)


def normal(
    n: int,
    size: int,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    seed: int = 0,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Draw (n, size) normal numbers from a new generator."""
    generator = torch.Generator().manual_seed(seed)
    return mean + std * torch.randn(n, size, generator=generator, dtype=dtype)


def rms(x: Tensor) -> float:
    """Compute the root mean square of all elements."""
    return float(x.square().mean().sqrt())
