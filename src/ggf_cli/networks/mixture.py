"""Mixtures of low-rank Gaussians: data distributions whose exact score is known.

    data        x0 ~ sum_k w_k N(mean_k, v_k I + F_k F_k^T),  the columns of F_k orthogonal
    noisy data  x  ~ sum_k w_k N(alpha mean_k, S_k),
                S_k = (alpha^2 v_k + sigma^2) I + alpha^2 F_k F_k^T
    score       sum_k p(k | x) S_k^-1 (alpha mean_k - x)

With F_k = U_k diag(s_k), U_k orthonormal, S_k^-1 is a scaled identity minus a correction inside the
span of U_k. The error of a solver on such a model contains no network error.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ggf_cli.errors import CheckpointError

# Matrix products of one or two rows use kernels that round differently; the score of a row must not
# depend on the number of rows.
_MIN_ROWS = 8

# Posteriors below this change no digit of a score. They are set to 0, because they lead to
# subnormal numbers, with which a CPU multiplies matrices five times as slowly.
_NOTHING = 1e-25


class GaussianMixture(nn.Module):
    """A Gaussian mixture with its exact score: network(x, alpha, sigma).

    Args:
        shape: Shape of one sample.
        components: Number of Gaussians, K >= 1.
        rank: Number of principal directions of each, R >= 0.

    Buffers (D is the number of elements of a sample):
        weight: (K,), sums to 1.
        mean: (K, D).
        variance: (K,), v_k > 0.
        directions: (K, D, R), U_k, orthonormal columns.
        scales: (K, R), s_k: standard deviations along the directions beyond v_k.
    """

    weight: Tensor
    mean: Tensor
    variance: Tensor
    directions: Tensor
    scales: Tensor

    def __init__(self, *, shape: tuple[int, ...], components: int, rank: int = 0) -> None:
        super().__init__()
        size = math.prod(shape)
        if components < 1 or rank < 0 or rank > size:
            raise CheckpointError(
                f"a mixture of {components} components of rank {rank} in {size} dimensions"
                " does not exist"
            )
        self.shape = tuple(shape)
        self.register_buffer("weight", torch.full((components,), 1 / components))
        self.register_buffer("mean", torch.zeros(components, size))
        self.register_buffer("variance", torch.ones(components))
        self.register_buffer("directions", torch.zeros(components, size, rank))
        self.register_buffer("scales", torch.zeros(components, rank))

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of the constructor, as JSON data."""
        components, _, rank = self.directions.shape
        return {"shape": list(self.shape), "components": components, "rank": rank}

    def forward(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The exact score at x (B, *shape); alpha, sigma (B,)."""
        batch = len(x)
        if batch < _MIN_ROWS:
            padding = torch.arange(_MIN_ROWS, device=x.device) % batch
            return self(x[padding], alpha[padding], sigma[padding])[:batch]
        alpha, sigma = alpha.to(x.dtype)[:, None], sigma.to(x.dtype)[:, None]
        iso = alpha.square() * self.variance + sigma.square()  # (B, K)
        stretch = (alpha[..., None] * self.scales).square()  # (B, K, R)
        ratio = stretch / (iso[..., None] + stretch)

        # Products with x, because products with alpha mean_k - x would be K times as many.
        y, mean, directions = x.flatten(1), self.mean, self.directions
        distance = alpha.square() * mean.square().sum(1) - 2 * alpha * (y @ mean.T)
        distance = distance + y.square().sum(1, keepdim=True)
        along = alpha[..., None] * torch.einsum("kd,kdr->kr", mean, directions)
        along = along - torch.einsum("bd,kdr->bkr", y, directions)
        mahalanobis = (distance - (ratio * along.square()).sum(-1)) / iso
        log_det = y.shape[1] * torch.log(iso) + torch.log1p(stretch / iso[..., None]).sum(-1)
        posterior = torch.softmax(torch.log(self.weight) - (mahalanobis + log_det) / 2, dim=1)
        posterior = torch.where(posterior < _NOTHING, 0.0, posterior)

        pull = posterior / iso  # (B, K)
        inside = torch.einsum("bkr,kdr->bd", pull[..., None] * ratio * along, directions)
        score = alpha * (pull @ mean) - pull.sum(1, keepdim=True) * y - inside
        return score.reshape(x.shape)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Exact samples of the data distribution, (n, *shape)."""
        k = torch.multinomial(self.weight, n, replacement=True, generator=generator)
        _, size, rank = self.directions.shape
        like: dict[str, Any] = {"generator": generator, "dtype": self.mean.dtype}
        noise = torch.randn(n, size, **like) * self.variance[k].sqrt()[:, None]
        inner = torch.randn(n, rank, **like) * self.scales[k]
        x = self.mean[k] + noise + torch.einsum("nr,ndr->nd", inner, self.directions[k])
        return x.reshape(n, *self.shape)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Exact mean (D,) and covariance (D, D) of the data distribution."""
        factors = self.directions * self.scales[:, None]
        second = torch.einsum("k,kdr,ker->de", self.weight, factors, factors)
        second += torch.einsum("k,kd,ke->de", self.weight, self.mean, self.mean)
        second.diagonal().add_((self.weight * self.variance).sum())
        mean = self.weight @ self.mean
        return mean, second - torch.outer(mean, mean)


def two_dimensional() -> GaussianMixture:
    """Three unequal Gaussians in the plane: a small test problem."""
    mixture = GaussianMixture(shape=(2,), components=3, rank=1)
    mixture.weight.copy_(torch.tensor([0.5, 0.3, 0.2]))
    mixture.mean.copy_(torch.tensor([[0.5, 0.5], [-0.6, 0.2], [0.0, -0.7]]))
    mixture.variance.copy_(torch.tensor([0.01, 0.02, 0.005]))
    mixture.directions.copy_(torch.tensor([[0.6, 0.8], [1.0, 0.0], [0.8, -0.6]])[..., None])
    mixture.scales.copy_(torch.tensor([[0.2], [0.0], [0.1]]))
    return mixture
