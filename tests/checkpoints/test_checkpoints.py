"""Loading of native checkpoint files, and errors for files that are damaged or not supported."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from ggf_cli.checkpoints import native
from ggf_cli.checkpoints.load import load_model
from ggf_cli.checkpoints.locate import local_path
from ggf_cli.checkpoints.manifest import read_manifest
from ggf_cli.errors import CheckpointError, UsageError

FASHION = local_path(read_manifest()["fashion-vp"])


def copy(tmp_path):
    return shutil.copy(FASHION, tmp_path / "model.safetensors")


def altered(tmp_path, tensors=lambda t: t, document=lambda d: d):
    """The fashion checkpoint with changed tensors or metadata."""
    from safetensors import safe_open

    with safe_open(FASHION, "pt") as file:
        description = json.loads(file.metadata()["ggf"])
    path = tmp_path / "model.safetensors"
    metadata = {"ggf": json.dumps(document(description))}
    save_file(tensors(load_file(FASHION)), path, metadata)
    return path


def test_a_native_file_needs_nothing_else(tmp_path):
    model = load_model(copy(tmp_path), device="cpu")
    assert model.shape == (1, 28, 28)
    assert model.name == "model.safetensors"


@pytest.mark.parametrize("size", [0, 7, 1000, 2_000_000])
def test_a_truncated_file_is_refused(tmp_path, size):
    path = tmp_path / "model.safetensors"
    path.write_bytes(FASHION.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"model.safetensors is corrupt or truncated"):
        load_model(path)


def without(name):
    return lambda tensors: {k: v for k, v in tensors.items() if k != name}


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        (without("conv_in.weight"), r"lacks conv_in.weight \(64, 4, 3, 3\)"),
        (lambda t: {**t, "conv_inn.weight": torch.zeros(2)}, r"unknown conv_inn.weight \(2,\)"),
        (
            lambda t: {**t, "conv_in.bias": torch.zeros(3)},
            r"conv_in.bias of shape \(3,\), expected \(64,\)",
        ),
    ],
)
def test_wrong_tensors_are_named(tmp_path, tensors, named):
    with pytest.raises(CheckpointError, match=named):
        load_model(altered(tmp_path, tensors))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: {**d, "schema": "ggf-checkpoint/9"},
        lambda d: {**d, "network": {"name": "nope", "config": {}}},
        lambda d: {**d, "network": {"name": "unet", "config": {"width": 3}}},
        lambda d: {**d, "parametrization": "nope"},
        lambda d: {**d, "sde": {"name": "nope"}},
        lambda d: {**d, "sde": {"name": "vp", "beta_min": -1}},
        lambda d: {**d, "sde": {"name": "ve"}},
        lambda d: {**d, "parametrization": "exact"},
        lambda d: {**d, "parametrization": ["vp-continuous"]},
        lambda d: {**d, "network": {"name": {}, "config": {}}},
        lambda d: {
            **d,
            "network": {**d["network"], "config": {**d["network"]["config"], "norm_eps": None}},
        },
        lambda d: {
            **d,
            "network": {**d["network"], "config": {**d["network"]["config"], "head_channels": -1}},
        },
        *(
            lambda d, shape=shape: {**d, "shape": shape}
            for shape in (
                "x",
                [],
                {},
                [None],
                [1.0, 28.0, 28.0],
                [1, -28, 28],
                [0],
                [2**40],
                [1, 28, 27],
                [3, 28, 28],
            )
        ),
        lambda d: {k: v for k, v in d.items() if k != "shape"},
        lambda d: [],
        lambda d: "text",
    ],
)
def test_invalid_metadata_are_refused(tmp_path, change):
    with pytest.raises(CheckpointError, match=r"model.safetensors"):
        load_model(altered(tmp_path, document=change))


def test_tensors_of_whole_numbers_are_refused(tmp_path):
    path = altered(tmp_path, lambda t: {**t, "conv_in.bias": t["conv_in.bias"].long()})
    with pytest.raises(CheckpointError, match=r"conv_in\.bias of type torch\.int64"):
        load_model(path)


def test_very_deep_nesting_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(2)}, path, {"ggf": "[" * 100_000})
    with pytest.raises(CheckpointError, match=r"the metadata of .* are not valid"):
        load_model(path)


def test_a_file_without_metadata_is_refused_with_a_hint(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    assert "ggf convert" in caught.value.hint


def test_a_replaced_embedded_file_is_refused(tmp_path, monkeypatch):
    text = (FASHION.parents[3] / "checkpoints.toml").read_text()
    sha = read_manifest()["fashion-vp"].sha256
    manifest = tmp_path / "checkpoints.toml"
    manifest.write_text(text.replace(sha, "0" * 64))
    monkeypatch.setenv("GGF_MANIFEST", str(manifest))
    with pytest.raises(CheckpointError, match="sha256"):
        load_model("fashion-vp")


@pytest.mark.parametrize("name", ["nothing/here", "nothing.safetensors"])
def test_a_path_without_a_file_is_a_checkpoint_error(name):
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_model(name)


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"config.json"):
        load_model(tmp_path)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "model.txt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_model(tmp_path / "model.txt")


def test_pickles_are_refused_with_the_reason(tmp_path):
    (tmp_path / "model.pkl").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="corrupt, or no pickle of EDM's code"):
        load_model(tmp_path / "model.pkl")


def test_an_unknown_model_gets_a_suggestion():
    with pytest.raises(UsageError) as caught:
        load_model("fashon-vp")
    assert "'fashion-vp'" in caught.value.hint


@pytest.mark.parametrize("device", ["cuda:7", "cuda:0", "toaster", "mps:3", "cpu:1"])
def test_a_device_that_is_not_there_is_refused(device):
    if device == "cuda:0" and torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(UsageError, match=device):
        load_model("mixture", device=device)


def test_auto_selects_a_device():
    assert load_model("mixture", device="auto").device.type in ("cpu", "cuda", "mps")


def test_embedded_weights_keep_their_bits(tmp_path):
    checkpoint = native.read(FASHION)
    path = tmp_path / "again.safetensors"
    path.write_bytes(native.to_bytes(checkpoint))
    for name, tensor in native.read(path).tensors.items():
        assert torch.equal(tensor, checkpoint.tensors[name])
