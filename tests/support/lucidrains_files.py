"""Recorded scores of denoising-diffusion-pytorch, and `.pt` files with their weights."""

import json
import sys

import torch

from paths import DATA, ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from song import weights

RECORDED = json.loads((DATA / "lucidrains_outputs.json").read_text())


def content_of(name):
    """The content of a file as `Trainer.save` writes it; the moving average is the recorded one."""
    case = RECORDED[name]
    average = weights(case["shapes"])
    buffers = {n: torch.tensor(values) for n, values in case["buffers"].items()}
    model = {**buffers, **{n: tensor + 1 for n, tensor in average.items()}}
    return {
        "step": 700,
        "model": model,
        "opt": {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"lr": 1e-4}]},
        "ema": {
            "initted": torch.tensor(True),
            "step": torch.tensor(70),
            **{f"online_model.{n}": tensor for n, tensor in model.items()},
            **{f"ema_model.{n}": tensor for n, tensor in (buffers | average).items()},
        },
        "scaler": None,
        "version": "2.3.1",
    }


def write(name, path, change=lambda content: None):
    """Write the file of a record, after a change of its content; return its path."""
    content = content_of(name)
    change(content)
    torch.save(content, path)
    return path
