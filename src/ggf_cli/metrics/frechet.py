"""The Fréchet distance between two Gaussians, in float64: the formula of FID and FFD.

    d = |mean_a - mean_b|^2 + tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2

for covariances A and B. It is the squared 2-Wasserstein distance of the Gaussians (Dowson & Landau
1982); Heusel et al. 2017, arXiv:1706.08500, apply it to feature statistics of images.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Blocks of rows that the jackknife leaves out, one at a time.
BLOCKS = 20


def frechet(features: Tensor, mean: Tensor, covariance: Tensor) -> float:
    """Fréchet distance, >= 0, of features (N, D), N >= 2, to a mean (D,) and covariance (D, D)."""
    return frechet_distance(*moments(features), mean, covariance)


def influence(features: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Influence of each row of features (N, D) on `frechet`, (N,) float64, of mean 0.

    The influence function (Hampel 1974) of the distance d at the moments m, A of the features, for
    reference moments n, B:

        I(x) = 2 (x - m) . (m - n) + (x - m)^T (1 - T) (x - m) - the mean of this over the rows
        T    = B^1/2 (B^1/2 A B^1/2)^-1/2 B^1/2

    T maps one Gaussian to the other. Up to terms of order 1 / N, d is the mean of the N numbers
    d + I(x_i), so the standard error of d is that of their mean.

    Args:
        features: (N, D), N >= 2.
        mean: Mean of the reference, (D,).
        covariance: Covariance of the reference, (D, D).
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


def excess(features: Tensor, mean: Tensor, covariance: Tensor) -> float:
    """Excess of `frechet` from N features (N, D) over its limit for N to infinity.

    The expectation of the distance is a series in 1 / N, because the moments are estimates. The
    jackknife (Quenouille 1956; Chong and Forsyth 2020, arXiv:1911.07023, fit the series instead)
    estimates its first term from the distances without each of up to `BLOCKS` blocks of rows:

        excess = (blocks - 1) (mean of these distances - distance of all rows)

    What remains is of order 1 / N^2. It is small if N is several times D, or than the number of
    directions that contain most of the variance.

    Args:
        features: (N, D), N >= 2.
        mean: Mean of the reference, (D,).
        covariance: Covariance of the reference, (D, D).
    """
    # At least two rows remain.
    blocks = min(BLOCKS, len(features) - 1)
    if blocks < 2:
        return 0.0
    mean, covariance = mean.double(), covariance.double()
    root, trace = _square_root(covariance), covariance.trace()
    rows = features.double()
    centre = rows.mean(0)
    rows = rows - centre
    squares = rows.T @ rows

    def distance(count: int, total: Tensor, squared: Tensor) -> float:
        """The distance of `count` rows from the sums of their values and of their products."""
        shift = total / count
        own = (squared - count * torch.outer(shift, shift)) / (count - 1)
        values = torch.linalg.eigvalsh(root @ own @ root)
        means = (centre + shift - mean).square().sum()
        return float(means + own.trace() + trace - 2 * values.clamp(min=0).sqrt().sum())

    total = rows.sum(0)
    whole = distance(len(rows), total, squares)
    left = [
        distance(len(rows) - len(part), total - part.sum(0), squares - part.T @ part)
        for part in torch.tensor_split(rows, blocks)
    ]
    return (blocks - 1) * (sum(left) / blocks - whole)


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and unbiased covariance (D, D) of features (N, D), N >= 2, in float64."""
    features = features.double()
    mean = features.mean(0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """Fréchet distance of two Gaussians, >= 0, in units of the features squared.

    The last trace is computed as the sum of the singular values of A^1/2 B^1/2. So no square root
    is taken of a number that is zero up to round-off, covariances of low rank lose no digits, and
    exchanging the two Gaussians changes only the last bits.

    Args:
        mean_a: (D,).
        cov_a: (D, D), symmetric, and positive semi-definite up to round-off.
        mean_b: As `mean_a`.
        cov_b: As `cov_a`.
    """
    mean_a, cov_a, mean_b, cov_b = (part.double() for part in (mean_a, cov_a, mean_b, cov_b))
    shared = torch.linalg.svdvals(_square_root(cov_a) @ _square_root(cov_b)).sum()
    means = (mean_a - mean_b).square().sum()
    distance = means + cov_a.trace() + cov_b.trace() - 2 * shared
    # For equal Gaussians round-off gives about -1e-15.
    return max(0.0, float(distance))


def _square_root(cov: Tensor) -> Tensor:
    """Symmetric square root of (D, D); eigenvalues that are negative by round-off count as 0."""
    values, vectors = torch.linalg.eigh(cov)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
