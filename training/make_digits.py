"""Write exact models of scikit-learn's digits, 8 x 8 pixels, under VP and VE.

    python training/make_digits.py runs/digits

No constant of `adaptive-multistep` was chosen on this data set. Each of the ten digits is one
Gaussian with 12 directions; the weights are the sizes of the classes. The files are
digits-vp.safetensors and digits-ve.safetensors. It needs scikit-learn, which has the 1,797 images
(UCI, CC BY 4.0).
"""

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits

from fit_mixture import maximise
from ggf_cli.networks.mixture import GaussianMixture
from ggf_cli.sde import VESDE, VPSDE
from make_mixture import write

RANK = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder

    digits = load_digits()
    x = torch.from_numpy(digits.data).float() / 8 - 1
    classes = torch.nn.functional.one_hot(torch.from_numpy(digits.target)).float()
    mixture = GaussianMixture(shape=(1, 8, 8), components=classes.shape[1], rank=RANK)
    maximise(mixture, x, classes)
    folder.mkdir(parents=True, exist_ok=True)
    provenance = {"source": "training/make_digits.py", "license": "CC BY 4.0"}
    # Song and Ermon 2020: sigma_max is the largest distance between two images.
    sigma_max = float(torch.pdist(x).max())
    write(mixture, folder / "digits-vp.safetensors", provenance, VPSDE())
    write(
        mixture,
        folder / "digits-ve.safetensors",
        provenance,
        VESDE(sigma_max=sigma_max, data_range=(-1.0, 1.0)),
    )


if __name__ == "__main__":
    main()
