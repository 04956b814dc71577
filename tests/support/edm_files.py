"""Checkpoints in the form of EDM's code, with the weights of the recording.

`pkl_file` writes the pickle that `torch_utils.persistence` of EDM writes: each object is a call of
`_reconstruct_persistent_obj` with a table of its class, the source code of its module, and its
attributes. The classes are stand-ins; the source code in the file is `HARM`.
"""

import json
import pickle
import sys
import types
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from paths import DATA, ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from song import weights

RECORDED = json.loads((DATA / "edm_outputs.json").read_text())
# It would leave a file in the working directory.
HARM = "open('harmed', 'w').close()\nclass SongUNet: pass\n"


def edm_weights(shapes):
    """Weights that depend on names only, without the resampling filters."""
    tensors = weights({n: s for n, s in shapes.items() if not n.endswith("resample_filter")})
    if "map_noise.freqs" in tensors:
        tensors["map_noise.freqs"] *= 40
    return tensors


def state_dict(name):
    """The weights of a recorded network, as EDM's code names them."""
    case = RECORDED[name]
    row = torch.tensor(case["filter"], dtype=torch.float32)
    taps = torch.outer(row, row)[None, None] / row.sum() ** 2
    filters = {n: taps for n in case["shapes"] if n.endswith("resample_filter")}
    return edm_weights(case["shapes"]) | filters


class Part(nn.Module):
    """A module of EDM's code: pickled with the name of its class, not of this one."""

    def __init__(self, name, **attributes):
        super().__init__()
        self.part = name
        self.__dict__.update(attributes)

    def __reduce__(self):
        return _reconstruct_persistent_obj, (persistent(self.part, dict(self.__dict__)),)


class Thing:
    """Another object of EDM's code."""

    def __init__(self, name, **attributes):
        self.meta = persistent(name, attributes)

    def __reduce__(self):
        return _reconstruct_persistent_obj, (self.meta,)


class EasyDict(dict):
    """Named after the class of dnnlib."""


def _reconstruct_persistent_obj(meta):
    raise AssertionError("the function of the file was called")


def persistent(name, state, **change):
    meta = {"type": "class", "version": 6, "module_src": HARM, "class_name": name, "state": state}
    return meta | change


@contextmanager
def modules_of_edm():
    """The modules that pickle looks for when it writes the names of the stand-ins."""
    names = {
        "torch_utils.persistence": _reconstruct_persistent_obj,
        "dnnlib.util": EasyDict,
    }
    before = dict(sys.modules)
    homes = {thing: thing.__module__ for thing in names.values()}
    try:
        for name, thing in names.items():
            sys.modules[name] = module = types.ModuleType(name)
            setattr(module, thing.__name__, thing)
            thing.__module__ = name
            sys.modules.setdefault(name.split(".")[0], types.ModuleType(name.split(".")[0]))
        yield
    finally:
        for name in sys.modules.keys() - before.keys():
            del sys.modules[name]
        for thing, home in homes.items():
            thing.__module__ = home


def network(name):
    """The network of a recording, as nested modules."""
    case = RECORDED[name]
    model = Part(case["model"], label_dropout=0, _init_kwargs={"img_resolution": case["size"]})
    for path, tensor in state_dict(name).items():
        *way, last = path.split(".")
        inside = model
        for depth, part in enumerate(way):
            if part not in inside._modules:
                holder = nn.ModuleDict() if depth == 0 and len(way) > 1 else None
                made = Part("Layer", skip_scale=np.sqrt(0.5)) if holder is None else holder
                inside.add_module(part, made)
            inside = inside._modules[part]
        if last in ("freqs", "resample_filter"):
            inside.register_buffer(last, tensor)
        else:
            inside.register_parameter(last, nn.Parameter(tensor, requires_grad=False))
    attributes = {"sigma_max": float("inf")} | case["attributes"]
    attributes = dict(attributes, label_dim=case["label_dim"], use_fp16=False)
    precond = Part(case["class"], _init_args=(), _init_kwargs={"model_type": case["model"]})
    if case["table"]:
        precond.register_buffer("u", torch.tensor(case["table"]))
    precond.add_module("model", model)
    precond.__dict__.update(attributes)
    return precond


def pickled(content):
    with modules_of_edm():
        return pickle.dumps(content, protocol=4)


def content(name):
    """The content of a `.pkl` file of a recorded network."""
    return {
        "ema": network(name),
        "loss_fn": Thing("EDMLoss", P_mean=-1.2, P_std=1.2, sigma_data=0.5),
        "augment_pipe": Thing("AugmentPipe", p=0.12, scale=[0, 0]),
        "dataset_kwargs": EasyDict(path="x.zip", use_labels=False, max_size=50000),
    }


def pkl_file(name, path):
    """Write the `.pkl` file of a recorded network."""
    path.write_bytes(pickled(content(name)))
    return path
