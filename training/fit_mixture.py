"""Fit the embedded exact model `fashion-mixture` to Fashion-MNIST by expectation maximisation.

    python training/fit_mixture.py src/ggf_cli/assets/fashion-mixture.safetensors [--components 30]

The components are Gaussians of low rank: a mixture of probabilistic principal component analysers
(Tipping & Bishop 1999). In each, the directions of largest variance have variances of their own and
all others share one. It needs scikit-learn (for the first assignment) and about 3 minutes on 2 CPU
cores. The result depends on the seed and, in its last bits, on the machine.
"""

import argparse
import math
from pathlib import Path

import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from fashion_mnist import load
from ggf_cli.networks.mixture import GaussianMixture
from make_mixture import write

# Per pixel. Pixels that are always black would make the density infinite.
MIN_VARIANCE = 1e-3


def log_joint(mixture: GaussianMixture, x: Tensor) -> Tensor:
    """Return log w_k + log N(x | k), (N, K), of images x (N, D)."""
    columns = []
    for k in range(len(mixture.weight)):
        v, s2 = mixture.variance[k], mixture.scales[k].square()
        residual = x - mixture.mean[k]
        along = residual @ mixture.directions[k]
        mahalanobis = (residual.square().sum(1) - (along.square() * s2 / (v + s2)).sum(1)) / v
        log_det = x.shape[1] * torch.log(2 * math.pi * v) + torch.log1p(s2 / v).sum()
        columns.append(torch.log(mixture.weight[k]) - (mahalanobis + log_det) / 2)
    return torch.stack(columns, 1)


def maximise(mixture: GaussianMixture, x: Tensor, posterior: Tensor) -> None:
    """Set each component to its maximum likelihood estimate; x (N, D), posterior (N, K)."""
    rank = mixture.scales.shape[1]
    for k in range(len(mixture.weight)):
        share = posterior[:, k]
        used = share > 1e-4
        w = share[used] / share[used].sum()
        centred = x[used] - (mean := w @ x[used])
        covariance = ((centred * w[:, None]).T @ centred).double()
        values, vectors = (part.flip(-1).float() for part in torch.linalg.eigh(covariance))
        v = max(float(values[rank:].mean()), MIN_VARIANCE)
        mixture.weight[k] = share.mean()
        mixture.mean[k] = mean
        mixture.variance[k] = v
        mixture.directions[k] = vectors[:, :rank]
        mixture.scales[k] = (values[:rank] - v).clamp(min=0).sqrt()
    mixture.weight /= mixture.weight.sum()


def fit(x: Tensor, components: int, rank: int, rounds: int, held_out: Tensor) -> GaussianMixture:
    """Fit a mixture by expectation maximisation, starting from k-means.

    Args:
        x: Images, (N, D).
        components: The number of components, K.
        rank: The number of directions of a component.
        rounds: The number of iterations.
        held_out: Images whose likelihood is printed, (M, D).
    """
    mixture = GaussianMixture(shape=(1, 28, 28), components=components, rank=rank)
    kmeans = MiniBatchKMeans(components, random_state=0, n_init=3, batch_size=4096)
    labels = torch.from_numpy(kmeans.fit_predict(x.numpy())).long()
    maximise(mixture, x, torch.nn.functional.one_hot(labels, components).float())
    for i in range(rounds):
        joint = torch.cat([log_joint(mixture, part) for part in x.split(10_000)])
        maximise(mixture, x, torch.softmax(joint, 1))
        train = float(torch.logsumexp(joint, 1).mean())
        test = float(torch.logsumexp(log_joint(mixture, held_out), 1).mean())
        print(
            f"round {i + 1}: mean log-likelihood {train:.2f} (training, before), {test:.2f} (test)"
        )
    return mixture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--components", type=int, default=30)
    parser.add_argument("--rank", type=int, default=41)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.manual_seed(0)

    images, test = load()[0].flatten(1), load(train=False)[0].flatten(1)
    mixture = fit(images, args.components, args.rank, args.rounds, test)
    source = (
        f"training/fit_mixture.py, {args.components} components of rank {args.rank},"
        f" {args.rounds} rounds, on the 60,000 Fashion-MNIST training images (MIT)"
    )
    write(mixture, args.out, {"source": source, "license": "MIT"})


if __name__ == "__main__":
    main()
