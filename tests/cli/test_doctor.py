"""`ggf doctor`: a correct installation passes; each fault is reported with its exit code."""

import builtins
import json
import subprocess
import sys
from dataclasses import dataclass

import pytest

from command import ggf
from fetch_client import Client
from ggf_cli.checkpoints.manifest import find_manifest
from ggf_cli.health import (
    CHECKS,
    FAILED,
    NETWORK,
    OK,
    WARNING,
    Finding,
    devices,
    folders,
    selftest,
    software,
    weights,
)
from ggf_cli.health import hub as health_hub
from hub_server import Hub
from paths import DATA


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Empty caches and an empty working folder for each test."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("GGF_HOME", str(tmp_path / "ggf"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def doctor(*options):
    return ggf("doctor", *options)


@dataclass(frozen=True)
class Fixed:
    """An entry of the checks whose check returns a given finding."""

    finding: Finding

    def load(self):
        return lambda: self.finding


def only(monkeypatch, **checks):
    """Replace all checks by these: name, with `_` for `-`, and its finding."""
    from ggf_cli import health

    found = {name.replace("_", "-"): finding for name, finding in checks.items()}
    monkeypatch.setattr(health, "CHECKS", {name: Fixed(f) for name, f in found.items()})


def test_a_correct_installation_passes():
    done = doctor("--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["schema"], document["exit_code"]) == ("ggf-doctor/2", 0)
    assert document["status"] in (OK, WARNING)
    checks = {check["name"]: check for check in document["checks"]}
    assert list(checks) == [name for name in CHECKS if name not in NETWORK]
    assert checks["versions"]["facts"]["torch"]
    assert checks["devices"]["facts"]["devices"][0]["device"] == "cpu"
    assert checks["cache"]["summary"] == "empty"
    models = checks["package"]["facts"]["models"]
    assert {model["state"] for model in models} == {"intact"}
    assert "fashion-features" in [model["name"] for model in models]
    (run, *_) = checks["self-test"]["facts"]["runs"]
    assert run["problems"] == []
    assert abs(run["mean"] - selftest.MEAN) < 1e-3


def test_the_output_is_a_table_with_hints_and_a_summary(monkeypatch):
    only(
        monkeypatch,
        versions=Finding(summary="ggf [1.0]"),
        memory=Finding(summary="1 GB", status=WARNING, hint="close other\x1b[2J programs"),
    )
    done = doctor()
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["versions", "ok", "ggf", "[1.0]"]
    assert lines[1].split() == ["memory", "warning", "1", "GB"]
    assert "hint: close other" in lines[2]
    assert "\x1b" not in done.stdout
    assert lines[-1] == "all checks passed; see the hints on memory"


def test_the_exit_code_is_that_of_the_first_failed_check(monkeypatch):
    only(
        monkeypatch,
        versions=Finding(summary=""),
        cache=Finding(summary="", status=FAILED, exit_code=3),
        self_test=Finding(summary="", status=FAILED, exit_code=4),
    )
    done = doctor()
    assert done.exit_code == 3
    assert done.stdout.splitlines()[-1] == "failed checks: cache, self-test"


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(software, "PACKAGES", ("torch", "no-such-package"))
    finding = software.versions()
    assert (finding.status, finding.exit_code) == (FAILED, 1)
    assert finding.summary == "not installed: no-such-package"


def test_torch_that_cannot_be_loaded_is_a_finding(monkeypatch):
    load = builtins.__import__

    def broken(name, *args, **options):
        if name == "torch":
            raise ImportError("libcudart.so.12: cannot open shared object file")
        return load(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", broken)
    done = doctor("--json")
    assert done.exit_code == 1
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["devices"]["status"] == FAILED
    assert "libcudart" in checks["devices"]["summary"]
    # The other checks still run.
    assert checks["folders"]["status"] in (OK, WARNING)


def test_a_missing_compiler_is_a_warning(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    finding = software.compiler()
    assert finding.status == WARNING
    assert "--compile" in finding.hint


def test_little_memory_is_a_warning(monkeypatch, tmp_path):
    for name, content in {"a": "max", "b": str(2**60), "c": str(2**29)}.items():
        (tmp_path / name).write_text(content)
    names = ("missing", "a", "b", "c")
    monkeypatch.setattr(devices, "LIMITS", [tmp_path / name for name in names])
    finding = devices.memory()
    assert finding.status == WARNING
    assert "limited to 0.5 GB" in finding.summary


def test_a_working_folder_that_cannot_be_written_fails(monkeypatch, tmp_path):
    def refuse(**options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(folders.tempfile, "TemporaryFile", refuse)
    finding = folders.folders()
    assert (finding.status, finding.exit_code) == (FAILED, 5)
    assert f"working {tmp_path}: Read-only file system" in finding.summary


def test_a_cache_that_cannot_be_created_is_a_warning(monkeypatch, tmp_path):
    (tmp_path / "hub").write_text("a file")
    finding = folders.folders()
    assert (finding.status, finding.exit_code) == (WARNING, 0)
    assert "HF_HOME" in finding.hint
    # The check creates no folder.
    assert not (tmp_path / "ggf").exists()


def test_a_full_disk_is_a_warning(monkeypatch):
    monkeypatch.setattr(folders, "LITTLE", 2**62)
    finding = folders.folders()
    assert finding.status == WARNING
    assert "free some disk space" in finding.hint


def test_a_disk_without_any_free_byte_is_a_warning(monkeypatch):
    usage = folders.shutil.disk_usage(".")._replace(free=0)
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda path: usage)
    finding = folders.folders()
    assert finding.status == WARNING
    assert "0.0 GB free" in finding.summary


def test_an_altered_file_of_the_package_fails(monkeypatch, tmp_path):
    text = find_manifest().read_text()
    sha256 = "b16b15d65ab03496d8d37b234dd1824c64a060ff6c0f79600031a996167e7855"
    assert sha256 in text
    (tmp_path / "other.toml").write_text(text.replace(sha256, "0" * 64))
    monkeypatch.setenv("GGF_MANIFEST", str(tmp_path / "other.toml"))
    finding = weights.package()
    assert (finding.status, finding.exit_code) == (FAILED, 3)
    assert "altered: fashion-vp" in finding.summary


def test_a_broken_registry_fails_with_2(monkeypatch, tmp_path):
    (tmp_path / "broken.toml").write_text("[a")
    monkeypatch.setenv("GGF_MANIFEST", str(tmp_path / "broken.toml"))
    done = doctor("--json")
    assert done.exit_code == 2
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert "broken.toml" in checks["package"]["summary"]


@pytest.mark.parametrize("altered", [False, True])
def test_the_hash_of_a_cached_checkpoint_is_checked(home, altered):
    import hashlib

    content = b"weights"
    stated = hashlib.sha256(content).hexdigest()
    # The registry has no hash for this model. The file name in the hub's cache is its hash.
    root = home / "hub/models--google--ddpm-cat-256"
    for part in ("blobs", "refs", "snapshots/0123456789"):
        (root / part).mkdir(parents=True)
    (root / "refs/main").write_text("0123456789")
    (root / "blobs" / stated).write_bytes(b"other" if altered else content)
    link = root / "snapshots/0123456789/diffusion_pytorch_model.bin"
    link.symlink_to(f"../../blobs/{stated}")
    finding = weights.cache()
    if altered:
        assert (finding.status, finding.exit_code) == (FAILED, 3)
        assert "altered: cat-ddpm" in finding.summary
        assert str(root / "blobs" / stated) in finding.hint
    else:
        assert finding.status == OK
        assert finding.summary.startswith("1 intact")


def test_unfinished_downloads_are_counted(home):
    blobs = home / "hub/models--a--b/blobs"
    blobs.mkdir(parents=True)
    (blobs / "x.incomplete").write_bytes(b"12345")
    finding = weights.cache()
    assert finding.status == WARNING
    assert finding.facts["unfinished_bytes"] == 5


def test_a_download_that_finishes_meanwhile_is_not_counted(home):
    blobs = home / "hub/models--a--b/blobs"
    blobs.mkdir(parents=True)
    # `stat` fails as it does after the file was renamed.
    (blobs / "x.incomplete").symlink_to("renamed")
    finding = weights.cache()
    assert finding.facts["unfinished"] == 0


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"MEAN": 0.1}, "have the mean"),
        ({"MAX_MEAN_ERROR": 0.1}, "the squared error of the mean"),
        ({"VARIANCE": (0.99, 1.0)}, "the variance is"),
        ({"SEED": 1}, "have the mean"),
        ({"NOISE_SHA256": "0" * 64}, "the noise differs from the recorded noise"),
    ],
)
def test_wrong_samples_fail(monkeypatch, change, problem):
    for name, value in change.items():
        monkeypatch.setattr(selftest, name, value)
    finding = selftest.selftest()
    assert (finding.status, finding.exit_code) == (FAILED, 4)
    assert problem in finding.summary


def test_the_noise_hash_is_that_of_the_recorded_noise():
    pinned = json.loads((DATA / "noise.json").read_text())
    assert pinned["prior"] == selftest.NOISE_SHA256


HUB_CHECK = """
import dataclasses, json
from ggf_cli import health
health.CHECKS = {"hub": health.CHECKS["hub"]}
[(_, finding)] = health.examine(hub=True)
print(json.dumps(dataclasses.asdict(finding)))
"""


@pytest.fixture
def program(tmp_path):
    """Run the check of the hub in a new process: huggingface_hub reads its environment once."""

    def run(url, **environment):
        client = Client(tmp_path, url)
        return subprocess.run(
            [sys.executable, "-c", HUB_CHECK],
            env=client.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_hub_is_timed_and_receives_no_token(program):
    with Hub() as hub:
        done = program(hub.url, HF_TOKEN="hf_SECRET")
    finding = json.loads(done.stdout)
    assert finding["status"] == OK
    assert 0 < finding["facts"]["seconds"] < 10
    assert finding["summary"].endswith("with a token")
    assert "SECRET" not in done.stdout + done.stderr
    assert all(request.authorization is None for request in hub.requests)


def test_a_hub_that_does_not_answer_fails_with_3(program):
    finding = json.loads(program("http://127.0.0.1:1").stdout)
    assert (finding["status"], finding["exit_code"]) == (FAILED, 3)
    assert "127.0.0.1 cannot be reached" in finding["summary"]


def test_offline_is_a_warning(program):
    finding = json.loads(program("http://127.0.0.1:1", HF_HUB_OFFLINE="1").stdout)
    assert finding["status"] == WARNING


def test_every_check_has_a_summary_and_can_be_loaded():
    assert all(entry.summary and entry.load() for entry in CHECKS.values())
    assert health_hub.hub is CHECKS["hub"].load()
    assert {*NETWORK} <= CHECKS.keys()


def test_gpus_are_listed_with_their_memory(monkeypatch):
    import torch

    for name, value in {
        "device_count": 1,
        "mem_get_info": (60 * 10**9, 80 * 10**9),
        "get_device_name": "H100",
        "get_device_capability": (9, 0),
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    finding = devices.devices()
    assert "cuda:0 (H100) 80.0 GB with fast bf16; auto is cuda" in finding.summary
    assert finding.facts["devices"][1]["free_bytes"] == 60 * 10**9
