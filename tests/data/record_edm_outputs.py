"""Record denoised images of EDM's networks, with few channels, for tests/checkpoints/test_edm.py.

    python tests/data/record_edm_outputs.py CHECKOUT tests/data/edm_outputs.json

CHECKOUT is a folder of NVlabs/edm (008a4e5, CC BY-NC-SA 4.0). Its code computes in float32; here it
runs in float64. Weights depend only on their names (tests/support/edm_files.py), inputs are the
noise of ggf. So only names, shapes and outputs are stored.
"""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from ggf_cli.noise import Noise

EVERY = 4
ARCHITECTURES = {
    "ddpmpp": {
        "embedding_type": "positional",
        "encoder_type": "standard",
        "decoder_type": "standard",
        "channel_mult_noise": 1,
        "resample_filter": [1, 1],
    },
    "ncsnpp": {
        "embedding_type": "fourier",
        "encoder_type": "residual",
        "decoder_type": "standard",
        "channel_mult_noise": 2,
        "resample_filter": [1, 3, 3, 1],
    },
    "skip": {
        "embedding_type": "fourier",
        "encoder_type": "skip",
        "decoder_type": "skip",
        "channel_mult_noise": 2,
        "resample_filter": [1, 3, 3, 1],
    },
    "adm": {},
    "narrow": {},
}
# Name: class, architecture, channel multipliers, number of classes, noise levels. Those of iDDPM
# are places in its table.
LEVELS = [0.002, 0.05, 1.0, 80.0]
CASES = {
    "cifar10-uncond-vp": ("EDMPrecond", "ddpmpp", [2, 2], 0, LEVELS),
    "cifar10-cond-vp": ("EDMPrecond", "ddpmpp", [2, 2], 10, LEVELS),
    "cifar10-cond-ve": ("EDMPrecond", "ncsnpp", [2, 2], 10, LEVELS),
    "ffhq-uncond-ve": ("EDMPrecond", "ncsnpp", [1, 2], 0, LEVELS),
    "skip": ("EDMPrecond", "skip", [1, 2], 0, LEVELS),
    "baseline-vp": ("VPPrecond", "ddpmpp", [1, 2], 0, LEVELS),
    "baseline-ve": ("VEPrecond", "ncsnpp", [1, 2], 0, [0.02, 0.2, 1.0, 80.0]),
    "imagenet-cond-adm": ("EDMPrecond", "adm", [1, 3, 4], 10, LEVELS),
    "narrow-uncond-adm": ("EDMPrecond", "narrow", [1, 2], 0, LEVELS),
    "baseline-imagenet-adm": ("iDDPMPrecond", "adm", [1, 2], 10, [99, 98, 70, 10, 1]),
}
# Only levels of 64 channels or more have attention in an ADM: one head of 96 and two of 64, or one
# of 64; "narrow" has none.
WIDTHS = {"ddpmpp": 8, "ncsnpp": 8, "skip": 8, "adm": 32, "narrow": 8}
ATTRIBUTES = ("sigma_min", "sigma_max", "sigma_data", "beta_d", "beta_min", "M", "epsilon_t")


def main():
    sys.path.insert(0, sys.argv[1])
    from training import networks

    target = Path(sys.argv[2])
    # The support module reads it when it is imported.
    target.exists() or target.write_text("{}\n")
    from edm_files import edm_weights

    torch.set_grad_enabled(False)
    single = torch.float32
    recorded = {}
    for name, (kind, architecture, multipliers, classes, levels) in CASES.items():
        model = "SongUNet" if ARCHITECTURES[architecture] else "DhariwalUNet"
        network = getattr(networks, kind)(
            img_resolution=16,
            img_channels=3,
            label_dim=classes,
            model_type=model,
            model_channels=WIDTHS[architecture],
            channel_mult=multipliers,
            num_blocks=1,
            attn_resolutions=[8, 4],
            augment_dim=9,
            **ARCHITECTURES[architecture],
            **({"M": 100} if kind == "iDDPMPrecond" else {}),
        )
        network = network.eval().double()
        shapes = {n: list(t.shape) for n, t in network.model.state_dict().items()}
        network.model.load_state_dict(edm_weights(shapes), strict=False)
        table = getattr(network, "u", None)
        if table is not None:
            levels = table[levels].tolist()
        index = torch.arange(len(levels))
        sigma = torch.tensor(levels, dtype=torch.float64)
        x = Noise(seed=1, shape=(3, 16, 16))(index, 0 * index).to(single).double()
        x = x * torch.sqrt(sigma**2 + 0.25).to(single).double()[:, None, None, None]
        labels = index % max(classes, 1)
        one_hot = torch.eye(classes, dtype=torch.float64)[labels] if classes else None
        # EDM's code converts to `torch.float32`.
        torch.float32 = torch.float64
        denoised = network(x, sigma, one_hot)
        torch.float32 = single
        score = (denoised - x) / sigma[:, None, None, None] ** 2
        recorded[name] = {
            "class": kind,
            "model": model,
            "size": 16,
            "label_dim": classes,
            "filter": ARCHITECTURES[architecture].get("resample_filter", [1, 1]),
            "table": None if table is None else table.tolist(),
            "attributes": {
                key: value
                for key in ATTRIBUTES
                if (value := getattr(network, key, None)) is not None and value != float("inf")
            },
            "shapes": shapes,
            "sigmas": levels,
            "largest": score.abs().flatten(1).amax(1).tolist(),
            "every_4th_pixel": score[:, :, ::EVERY, ::EVERY].flatten(1).tolist(),
        }
    target.write_text(json.dumps(recorded) + "\n")


if __name__ == "__main__":
    main()
