"""Files of models that ggf does not sample: refused by name, with a way on."""

import json
import re

import pytest
import torch

from ggf_cli.checkpoints.load import load_model
from ggf_cli.errors import CheckpointError

WEIGHT = torch.zeros(2, 2)


@pytest.mark.parametrize(
    ("name", "content", "what", "hint"),
    [
        ("a.pt", {"x_embedder.proj.weight": WEIGHT}, "transformer of latents", "decode"),
        ("a.pth", {"model": {"first_stage_model.a": WEIGHT}}, "latent diffusion", "autoencoder"),
        (
            "otcfm_cifar10_weights_step_400000.pt",
            {"net_model": {"a": WEIGHT}, "ema_model": {"a": WEIGHT}, "sched": {}, "optim": {}},
            "flow-matching model of torchcfm",
            "from_velocity.*OT-CFM.* is false",
        ),
        ("cd_bedroom256_lpips.pt", {"a": WEIGHT}, "consistency model", "has no score"),
        ("a.pt", {"state_dict": {}, "pytorch-lightning_version": "2"}, "Lightning", "FILE.py"),
        ("a.pt", {"a": WEIGHT}, "does not recognise", "FILE.py:OBJECT"),
        ("a.pth", {"model": {"a": WEIGHT}}, "not a checkpoint of score_sde_pytorch", "FILE.py"),
    ],
)
def test_a_torch_file_is_refused_by_name_with_a_way_on(name, content, what, hint, tmp_path):
    torch.save(content, tmp_path / name)
    with pytest.raises(CheckpointError, match=what) as error:
        load_model(tmp_path / name)
    assert re.search(hint, error.value.hint)


@pytest.mark.parametrize(
    ("name", "content", "what", "hint"),
    [
        ("checkpoint_8", b"\x84\xa9optimizer", "flax msgpack", r"\.pth files"),
        ("model.msgpack", b"\xde\x00\x10", "flax msgpack", r"\.pth files"),
        ("sd.ckpt", b"PK\x03\x04", "latent diffusion models", "FILE.py:OBJECT"),
        ("notes", b"text", "not a checkpoint that ggf can read", r"\.pt files"),
        ("empty", b"", "not a checkpoint that ggf can read", r"\.pt files"),
    ],
)
def test_another_file_is_refused_by_name_with_a_way_on(name, content, what, hint, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=what) as error:
        load_model(tmp_path / name)
    assert re.search(hint, error.value.hint)


def test_a_consistency_pipeline_of_diffusers_is_refused_by_name(tmp_path):
    index = {"_class_name": "ConsistencyModelPipeline", "unet": ["diffusers", "UNet2DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet/config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="consistency model, which has no score") as error:
        load_model(tmp_path)
    assert "distilled from" in error.value.hint
