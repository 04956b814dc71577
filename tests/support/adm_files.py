"""Recorded outputs of OpenAI's ADM networks, and `.pt` files with the weights of the recording."""

import json
import sys

import torch

from paths import DATA, ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from ggf_cli.checkpoints.settings import as_config
from song import weights

RECORDED = json.loads((DATA / "adm_outputs.json").read_text())


def adm_file(name, path, *, change=lambda tensors: tensors):
    """Save the .pt file of a recording: a table of tensors and nothing else."""
    torch.save(change(weights(RECORDED[name]["shapes"])), path)
    return path


def adm_config(name, **changes):
    """The `config` of a recording."""
    case = RECORDED[name]
    settings = {"image_size": case["size"], **case["settings"], **changes}
    return as_config({key: value for key, value in settings.items() if value is not None})
