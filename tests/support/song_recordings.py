"""Recorded outputs of score_sde_pytorch, and `.pth` files with the weights of the recording."""

import json
import math
import sys

import torch

from paths import DATA, ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from song import weights

RECORDED = json.loads((DATA / "song_outputs.json").read_text())
# Networks trained at 1000 noise levels, and the class ddpm.
DISCRETE = json.loads((DATA / "song_discrete_outputs.json").read_text())


def song_file(name, path, *, change=lambda content: content):
    """Save a .pth file as score_sde_pytorch does; the moving average is that of the recording."""
    case = (RECORDED | DISCRETE)[name]
    average = weights(case["shapes"])
    trained = [t for n, t in average.items() if n != "all_modules.0.W"]
    model = {f"module.{n}": t if n == "all_modules.0.W" else t + 1 for n, t in average.items()}
    first, last = case["sigmas"]
    length = case["shapes"]["sigmas"][0]
    sigmas = torch.linspace(math.log(first), math.log(last), length, dtype=torch.float64).exp()
    content = {
        "optimizer": {"state": {0: {"exp_avg": trained[0] + 2}}, "param_groups": [{"lr": 1e-4}]},
        "model": {"module.sigmas": sigmas, **model},
        "ema": {"decay": 0.999, "num_updates": 5, "shadow_params": trained},
        "step": 400005,
    }
    torch.save(change(content), path)
    return path
