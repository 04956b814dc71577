"""Record outputs of OpenAI's ADM networks, with few channels, for tests/networks/test_adm.py.

    python tests/data/record_adm_outputs.py GUIDED IMPROVED CONSISTENCY tests/data/adm_outputs.json

The folders are openai/guided-diffusion (22e0df8), openai/improved-diffusion (1bc7bbb) and
openai/consistency_models (e32b69e). Weights depend only on their names (benchmarks/song.py), inputs
are the noise of ggf. So only the names, shapes and outputs are stored. The flash attention of
consistency_models needs a GPU; its own attention in plain torch, of the same layout, replaces it.
"""

import importlib
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from ggf_cli.noise import Noise
from song import weights

SIZE, CLASSES, EVERY = 8, 10, 2
COMMON = {
    "in_channels": 3,
    "model_channels": 32,
    "out_channels": 6,
    "num_res_blocks": 1,
    "attention_resolutions": (2,),
    "channel_mult": (1, 2),
}
NEW = {"image_size": SIZE, **COMMON, "resblock_updown": True}
LINEAR = {"noise_schedule": "linear", "diffusion_steps": 1000}
COSINE = {"noise_schedule": "cosine", "diffusion_steps": 4000}
# Name: package, changes of COMMON, settings of the training. These are the kinds of published file.
CASES = {
    "64x64_diffusion": (
        "guided_diffusion",
        {
            **NEW,
            "num_classes": CLASSES,
            "num_head_channels": 32,
            "use_scale_shift_norm": True,
            "use_new_attention_order": True,
            "num_res_blocks": 2,
        },
        {
            "noise_schedule": "cosine",
            "num_head_channels": 32,
            "use_new_attention_order": True,
        },
    ),
    "128x128_diffusion": (
        "guided_diffusion",
        {**NEW, "num_classes": CLASSES, "num_heads": 4, "use_scale_shift_norm": True},
        {**LINEAR, "num_heads": 4},
    ),
    "512x512_diffusion": (
        "guided_diffusion",
        {
            **NEW,
            "model_channels": 64,
            "channel_mult": (0.5, 1, 1),
            "attention_resolutions": (4,),
            "num_head_channels": 16,
            "use_scale_shift_norm": True,
        },
        {**LINEAR, "num_head_channels": 16},
    ),
    "imagenet64_cond": (
        "improved_diffusion",
        {
            **COMMON,
            "num_classes": CLASSES,
            "num_heads": 4,
            "use_scale_shift_norm": True,
            "num_res_blocks": 2,
        },
        {**COSINE, "num_heads": 4, "rescale_timesteps": False},
    ),
    "cifar10_uncond": (
        "improved_diffusion",
        {**COMMON, "num_heads": 4, "use_scale_shift_norm": True},
        {**COSINE, "num_heads": 4, "rescale_timesteps": True},
    ),
    "lsun_uncond": (
        "improved_diffusion",
        {**COMMON, "num_heads": 1, "use_scale_shift_norm": False},
        {**LINEAR, "num_heads": 1},
    ),
    "plain": (
        "guided_diffusion",
        {
            "image_size": SIZE,
            **COMMON,
            "out_channels": 3,
            "num_heads": 2,
            "conv_resample": False,
        },
        {**LINEAR, "num_heads": 2, "predict_xstart": True},
    ),
    "edm": (
        "cm",
        {**NEW, "out_channels": 3, "num_head_channels": 16, "num_classes": CLASSES},
        {"noise_schedule": "edm", "num_head_channels": 16},
    ),
}


def labels_of(settings):
    """Labels at the first and the last noise level, and some between them."""
    if settings["noise_schedule"] == "edm":
        return [float(250 * torch.tensor(s).log()) for s in (0.002, 0.02, 0.5, 5.0, 80.0)]
    last = settings.get("diffusion_steps", 1000) - 1
    scale = 1000 / (last + 1) if settings.get("rescale_timesteps") else 1
    return [scale * k for k in (0, 1, last // 2, last - 1, last)]


def main():
    torch.set_grad_enabled(False)
    sys.path[:0] = sys.argv[1:4]
    recorded = {}
    for name, (package, arguments, settings) in CASES.items():
        module = importlib.import_module(f"{package}.unet")
        if package == "cm":
            module.QKVFlashAttention = lambda _, heads, module=module: module.QKVAttention(heads)
        network = module.UNetModel(**arguments).eval()
        shapes = {n: list(t.shape) for n, t in network.state_dict().items()}
        network.load_state_dict(weights(shapes))
        labels = labels_of(settings)
        index = torch.arange(len(labels))
        x = Noise(seed=1, shape=(3, SIZE, SIZE))(index, 0 * index)
        conditional = arguments.get("num_classes") is not None
        classes = {"y": (3 * index) % CLASSES} if conditional else {}
        output = network(x, torch.tensor(labels), **classes)[:, :3]
        recorded[name] = {
            "size": SIZE,
            "settings": settings,
            "labels": labels,
            "classes": classes["y"].tolist() if classes else None,
            "shapes": shapes,
            "norms": [float(a.norm()) for a in output],
            "every_2nd_pixel": output[:, :, ::EVERY, ::EVERY].flatten(1).tolist(),
        }
    Path(sys.argv[4]).write_text(json.dumps(recorded) + "\n")


if __name__ == "__main__":
    main()
