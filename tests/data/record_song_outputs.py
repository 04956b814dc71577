"""Record outputs of Song's networks, with few channels, for tests/networks/test_ncsnpp.py.

    python tests/data/record_song_outputs.py CHECKOUT tests/data/song_outputs.json
    python tests/data/record_song_outputs.py CHECKOUT tests/data/song_discrete_outputs.json discrete

The second records the networks that were trained at 1000 noise levels, and the class ddpm.
CHECKOUT is a folder of yang-song/score_sde_pytorch (cb1f359), which needs ml_collections. Weights
depend only on their names (benchmarks/song.py), inputs are the noise of ggf. So only the names,
shapes and outputs are stored.
"""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from ggf_cli.noise import Noise
from song import build

WIDTH, EVERY = 8, 8
# Name: height of the images, labels (sigma for VE, 999 t for VP).
CASES = {
    "church": (64, [0.01, 1.0, 380.0]),
    "ffhq-1024": (128, [0.01, 1.0, 1348.0]),
    "cifar10-ve": (32, [0.01, 1.0, 50.0]),
    "cifar10-vp": (32, [1.0, 499.5, 999.0]),
}
DISCRETE = {
    "ve/cifar10_ncsnpp": (32, [0, 500, 999]),
    "vp/cifar10_ddpm": (32, [0, 500, 999]),
    "vp/cifar10_ddpm_continuous": (32, [1.0, 499.5, 999.0]),
}


def main():
    torch.set_grad_enabled(False)
    recorded = {}
    for name, (size, labels) in (DISCRETE if sys.argv[3:] else CASES).items():
        # The class ddpm has 32 groups.
        width = 4 * WIDTH if "ddpm" in name else WIDTH
        network = build(sys.argv[1], name, width=width, size=size)
        index = torch.arange(len(labels))
        x = Noise(seed=1, shape=(3, size, size))(index, 0 * index)
        output = network(x, torch.tensor(labels))
        recorded[name] = {
            "size": size,
            "labels": labels,
            "shapes": {n: list(t.shape) for n, t in network.state_dict().items()},
            "sigmas": [float(network.sigmas[0]), float(network.sigmas[-1])],
            "norms": [float(a.norm()) for a in output],
            "every_8th_pixel": output[:, :, ::EVERY, ::EVERY].flatten(1).tolist(),
        }
    Path(sys.argv[2]).write_text(json.dumps(recorded) + "\n")


if __name__ == "__main__":
    main()
