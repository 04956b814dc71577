"""Write the embedded exact model `mixture`: 8 Gaussians around coloured patterns, 3x16x16.

Each component has rank 2: brightness, and a shading from left to right.

    python training/make_mixture.py src/ggf_cli/assets/mixture.safetensors
"""

import sys
from pathlib import Path

import torch

from ggf_cli.checkpoints.native import Checkpoint, to_bytes
from ggf_cli.networks.mixture import GaussianMixture
from ggf_cli.sde import SDE, VPSDE

SIZE = 16
PIXEL_STD = 0.05
# Per pixel, along each of the two directions.
SHADE_STD = 0.15


def patterns() -> torch.Tensor:
    """Return the means of the components, (8, 3, SIZE, SIZE), from -0.8 to 0.8."""
    v, u = torch.meshgrid(*[torch.linspace(-1, 1, SIZE)] * 2, indexing="ij")
    r = torch.sqrt(u**2 + v**2)
    disc = (r < 0.7).float()
    ring = ((r > 0.45) & (r < 0.85)).float()
    cross = ((u.abs() < 0.25) | (v.abs() < 0.25)).float()
    stripes = torch.floor(4 * (u + 1)) % 2
    checkerboard = (torch.floor(2 * (u + 1)) + torch.floor(2 * (v + 1))) % 2
    triangle = (u > v).float()
    square = (torch.maximum(u.abs(), v.abs()) < 0.6).float()
    gradient = (v + 1) / 2
    masks = [disc, ring, cross, stripes, checkerboard, triangle, square, gradient]
    colours = [
        [1, 0.8, 0], [0, 0.8, 1], [1, 0, 0.6], [0.2, 0.9, 0.3],
        [1, 1, 1], [1, 0.4, 0.1], [0.4, 0.3, 1], [0.9, 0.2, 0.2],
    ]  # fmt: skip
    images = [m * torch.tensor(c)[:, None, None] for m, c in zip(masks, colours, strict=True)]
    return 1.6 * torch.stack(images) - 0.8


def build() -> GaussianMixture:
    """Build the mixture."""
    means = patterns().flatten(1)
    components, size = means.shape
    shading = torch.linspace(-1, 1, SIZE).expand(3, SIZE, SIZE).flatten()
    directions = torch.stack([torch.ones(size), shading], dim=1)
    directions = directions / directions.norm(dim=0)

    mixture = GaussianMixture(shape=(3, SIZE, SIZE), components=components, rank=2)
    mixture.mean.copy_(means)
    mixture.variance.fill_(PIXEL_STD**2)
    mixture.directions.copy_(directions)
    mixture.scales.fill_(SHADE_STD * size**0.5)
    return mixture


def write(
    mixture: GaussianMixture, path: Path, provenance: dict[str, str], sde: SDE | None = None
) -> None:
    """Write a mixture as a native checkpoint, under VP unless another SDE is given."""
    checkpoint = Checkpoint(
        network="gaussian-mixture",
        network_config=mixture.config,
        parametrization="exact",
        sde=sde or VPSDE(),
        shape=mixture.shape,
        tensors=mixture.state_dict(),
        provenance=provenance,
    )
    path.write_bytes(to_bytes(checkpoint))


def main() -> None:
    """Write the file named on the command line."""
    provenance = {"source": "training/make_mixture.py", "license": "Apache-2.0"}
    write(build(), Path(sys.argv[1]), provenance)


if __name__ == "__main__":
    main()
