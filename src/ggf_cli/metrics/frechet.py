"""The Fréchet distance between two Gaussians, in float64: what FID and its kin have in common.

    d = |mean_a - mean_b|^2 + tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2

for covariances A and B; it is the squared 2-Wasserstein distance of the Gaussians (Dowson & Landau 1982), used between feature
statistics of images by Heusel et al. 2017, arXiv:1706.08500. This module knows nothing of images.
"""

from __future__ import annotations

import torch
from torch import Tensor


def frechet(features: Tensor, mean: Tensor, covariance: Tensor) -> float:
    """The distance of the moments of features (N, D), N >= 2, to a mean (D,) and covariance (D, D)."""
    return frechet_distance(*moments(features), mean, covariance)


def influence(features: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """How much each row of features (N, D) moves `frechet`, (N,) float64, of mean 0.

    The influence function (Hampel 1974) of the distance d at the moments m, A of the features, for reference moments n, B:

        I(x) = 2 (x - m) . (m - n) + (x - m)^T (1 - T) (x - m) - their mean,   T = B^1/2 (B^1/2 A B^1/2)^-1/2 B^1/2

    T maps one Gaussian to the other. d is the mean of N numbers d + I(x_i), but for terms of order 1 / N, so the
    standard error of d is that of their mean.
    """
    own_mean, own_covariance = moments(features)
    mean, covariance = mean.double(), covariance.double()
    root = _square_root(covariance)
    values, vectors = torch.linalg.eigh(root @ own_covariance @ root)
    # Directions in which the features do not vary have no influence to first order.
    kept = values > values.max() * len(mean) * torch.finfo(values.dtype).eps
    inverse = torch.where(kept, values.clamp(min=torch.finfo(values.dtype).tiny).rsqrt(), 0)
    to_reference = root @ (vectors * inverse) @ vectors.T @ root
    centred = features.double() - own_mean
    curved = (centred * (centred - centred @ to_reference)).sum(1)
    total: Tensor = curved + 2 * centred @ (own_mean - mean)
    return total - total.mean()


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of features (N, D), N >= 2, in float64; the covariance is divided by N - 1."""
    features = features.double()
    mean = features.mean(0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """The distance of the module's docstring, >= 0, in units of the features squared.

    The last trace is the sum of the singular values of A^1/2 B^1/2: no square root of a number that is zero but for
    round-off is taken after the product, so covariances of low rank lose no digits, and exchanging the two changes
    only the last bits.

    Args:
        mean_a: (D,).
        cov_a: (D, D), symmetric, and positive semi-definite up to round-off.
        mean_b: As `mean_a`.
        cov_b: As `cov_a`.
    """
    mean_a, cov_a, mean_b, cov_b = (part.double() for part in (mean_a, cov_a, mean_b, cov_b))
    overlap = torch.linalg.svdvals(_square_root(cov_a) @ _square_root(cov_b)).sum()
    apart = (mean_a - mean_b).square().sum()
    distance = apart + cov_a.trace() + cov_b.trace() - 2 * overlap
    return max(0.0, float(distance))  # equal ones: -1e-15 or so


def _square_root(cov: Tensor) -> Tensor:
    """The symmetric square root; eigenvalues that round-off made negative count as 0."""
    values, vectors = torch.linalg.eigh(cov)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
