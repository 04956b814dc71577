"""Download, convert and sample models with the real program, from a hub on this machine.

The program runs in its own process. The models are NCSN++ and DDPM with few channels and random
weights.
"""

import io
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save

from diffusers_configs import FASHION, NCSNPP_256, SCHEDULER, VE_2022, published
from ggf_cli.checkpoints.hashes import data_folder
from hub_server import Hub
from patience import PATIENCE
from song_recordings import RECORDED, song_file, weights

CHURCH = "google/ncsnpp-church-256"


def pickled(tensors):
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


def json_bytes(document):
    return json.dumps(document).encode()


@pytest.fixture
def hub():
    with Hub() as hub:
        yield hub


@pytest.fixture
def program(tmp_path, hub):
    """Run `ggf` with its caches in tmp_path and with the local hub."""
    keep = {key: os.environ[key] for key in ("PATH", "NO_COLOR", "TERM", "COLUMNS")}
    environment = {
        **keep,
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "hf"),
        "GGF_HOME": str(tmp_path / "ggf"),
        "HF_ENDPOINT": hub.url,
        "NO_PROXY": "*",
        "OMP_NUM_THREADS": "1",
    }

    def run(*args, **more):
        return subprocess.run(
            [sys.executable, "-m", "ggf_cli", *map(str, args)],
            env={**environment, **more},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    return run


@pytest.fixture(scope="module")
def ncsnpp():
    """A repository like google/ncsnpp-church-256, narrower."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import UNet2DModel
    network = UNet2DModel(**NCSNPP_256)
    network.load_state_dict(weights({n: t.shape for n, t in network.state_dict().items()}))
    return {
        "config.json": json_bytes({"_class_name": "UNet2DModel", **NCSNPP_256}),
        "scheduler_config.json": json_bytes({**VE_2022, "sigma_max": 999}),
        "diffusion_pytorch_model.bin": pickled(published(network)),
    }


def manifest_with_commit(tmp_path, commit):
    """A copy of the registry in which church has this commit."""
    from ggf_cli.checkpoints.manifest import find_manifest

    text = find_manifest().read_text()
    path = tmp_path / "checkpoints.toml"
    path.write_text(text.replace("819e60b10ad98bfeac12931806cca04645aa5699", commit))
    return path


def test_a_registered_model_is_downloaded_once_and_sampled(hub, program, ncsnpp, tmp_path):
    manifest = manifest_with_commit(tmp_path, hub.publish(CHURCH, ncsnpp))
    command = [
        "sample",
        "--model",
        "church",
        "--eps-rel",
        "0.02",
        "--n",
        1,
        "--max-nfe",
        6,
        "--json",
    ]
    done = program(*command, "--out", "a", GGF_MANIFEST=str(manifest))
    # With random weights, the solver stops at --max-nfe, which is a failure.
    assert done.returncode == 4, done.stderr
    log = json.loads(done.stdout)
    assert log["status"] == "failed"
    assert log["samples"][0]["nfe"] == 6
    assert log["model"]["name"] == "church"
    # From the registry; the file on the hub has 999.
    assert log["model"]["sde"]["sigma_max"] == 380
    assert log["model"]["shape"] == [3, 32, 32]
    assert len(hub.transfers) == 3

    listed = json.loads(program("list-models", "--json", GGF_MANIFEST=str(manifest)).stdout)
    assert next(m for m in listed if m["name"] == "church")["here"]
    hub.stop()
    offline = program(*command, "--out", "b", GGF_MANIFEST=str(manifest), HF_HUB_OFFLINE="1")
    assert offline.returncode == 4
    assert json.loads(offline.stdout)["samples"] == log["samples"]

    pc = ["sample", "--model", "church", "--solver", "pc", "--n", 1, "--max-nfe", 2, "--json"]
    log = json.loads(program(*pc, "--out", "c", GGF_MANIFEST=str(manifest)).stdout)
    # From the registry.
    assert log["solver"]["options"]["snr"] == 0.075


def test_any_repository_of_a_known_architecture_can_be_named(hub, program):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import UNet2DModel
    torch.manual_seed(0)
    network = UNet2DModel(**FASHION)
    config = {"_class_name": "UNet2DModel", **network.config}
    hub.publish(
        "someone/pipeline",
        {
            "unet/config.json": json_bytes(config),
            "unet/diffusion_pytorch_model.safetensors": save(network.state_dict()),
            "scheduler/scheduler_config.json": json_bytes(SCHEDULER),
            "model_index.json": b"{}",
        },
    )
    done = program(
        "sample", "--model", "hf:someone/pipeline", "--n", 1, "-s", "em", "--steps", 3, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"]["shape"] == [1, 28, 28]

    found = json.loads(program("inspect", "hf:someone/pipeline", "--json").stdout)
    assert (found["source"], found["format"]) == ("hub:someone/pipeline", "diffusers")
    assert (found["license"], found["score"]["finite"]) == (None, True)


def test_an_unsupported_architecture_is_refused_before_its_weights_are_read(hub, program):
    config = {"_class_name": "UNet2DConditionModel", **FASHION}
    hub.publish(
        "someone/conditional",
        {
            "config.json": json_bytes(config),
            "scheduler_config.json": json_bytes(SCHEDULER),
            "diffusion_pytorch_model.safetensors": b"never read",
        },
    )
    done = program("sample", "--model", "hf:someone/conditional")
    assert done.returncode == 3
    assert "_class_name is 'UNet2DConditionModel'" in done.stderr
    assert len(hub.transfers) == 2
    done = program("inspect", "hf:someone/conditional", "--json")
    assert done.returncode == 3
    assert "_class_name is 'UNet2DConditionModel'" in json.loads(done.stdout)["error"]


def test_download_prints_name_and_path(hub, program, ncsnpp, tmp_path):
    manifest = manifest_with_commit(tmp_path, hub.publish(CHURCH, ncsnpp))
    done = program("download", "church", "mixture", "--quiet", GGF_MANIFEST=str(manifest))
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert [name for name, _ in lines] == ["church", "mixture"]
    assert all(os.path.isfile(path) for _, path in lines)  # noqa: PTH113


def test_weights_that_are_not_the_registered_ones_are_refused(hub, program, ncsnpp):
    hub.publish("google/ncsnpp-ffhq-256", ncsnpp)
    done = program("download", "ffhq-256")
    assert done.returncode == 3
    assert "086d81c850a2470b8049ba38f922b23b43b0c9c78810fdef5a9644abf524f535" in done.stderr
    assert "hint: delete" in done.stderr


# Four programs that load a network of full depth.
@pytest.mark.slow
def test_a_model_that_needs_a_browser_is_converted_with_the_command_in_the_hint(program, tmp_path):
    done = program("sample", "--model", "cifar10-vp", "--n", 1)
    assert done.returncode == 3
    assert "drive.google.com/drive/folders/1xYjVMx10N9ivQQBIsEoXEeu9nvSGTBrC" in done.stderr
    assert "checkpoint_8.pth" in done.stderr
    # The command in the hint.
    command = done.stderr.split("ggf ")[-1].strip()
    assert command.startswith("convert checkpoint_8.pth ")

    song_file("cifar10-vp", tmp_path / "checkpoint_8.pth")
    converted = program(*command.split(" "))
    assert converted.returncode == 0, converted.stderr
    assert "ncsnpp" in converted.stdout
    assert "VPSDE" in converted.stdout
    done = program("sample", "--model", "cifar10-vp", "--n", 1, "-s", "em", "--steps", 2, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"]["parameters"] == sum(
        torch.Size(shape).numel()
        for n, shape in RECORDED["cifar10-vp"]["shapes"].items()
        if n != "sigmas"
    )


def test_a_pth_file_can_be_sampled_directly(program, tmp_path):
    song_file("cifar10-ve", tmp_path / "checkpoint_24.pth")
    done = program(
        "sample", "--model", "checkpoint_24.pth", "--n", 1, "-s", "em", "--steps", 2, "--json"
    )
    assert done.returncode in (0, 4), done.stderr
    assert json.loads(done.stdout)["model"]["sde"]["sigma_max"] == 50


def test_the_folder_of_converted_models_is_set_by_ggf_home(monkeypatch, tmp_path):
    monkeypatch.setenv("GGF_HOME", str(tmp_path))
    assert data_folder() == tmp_path
