"""The registry of models, `checkpoints.toml`: reading, checking and finding it."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from ggf_cli.checkpoints import manifest, native
from ggf_cli.checkpoints.hashes import file_sha256
from ggf_cli.checkpoints.locate import local_path
from ggf_cli.checkpoints.manifest import find_model, read_manifest
from ggf_cli.errors import CheckpointError, ConfigError
from ggf_cli.sde import sde_from_dict
from manifests import GOOD_MANIFEST
from paths import ROOT


def write(tmp_path, text):
    path = tmp_path / "checkpoints.toml"
    path.write_text(text)
    return path


def test_a_good_file_is_read(tmp_path):
    entry = read_manifest(write(tmp_path, GOOD_MANIFEST))["one"]
    assert entry.shape == (1, 2, 2)
    assert entry.citation == ""


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("license =", "licence =", "line 10: unknown key 'licence'"),
        ("parameters = 3", 'parameters = "3"', r"line 7: 'parameters' in \[one\] is '3'"),
        ("parameters = 3", "parameters = true", "line 7"),
        ("shape = [1, 2, 2]", "shape = [1, 0]", "line 6: 'shape'"),
        ("shape = [1, 2, 2]", "shape = [1, 2", "line 7|line 6"),
        ('dataset = "d"\n', "", r"line 2: \[one\] lacks the key 'dataset'"),
        ('"embedded:one.safetensors"', '"embedded:../one.safetensors"', "line 8: 'source'"),
        ('"embedded:one.safetensors"', '"s3://x"', "line 8: 'source'"),
        ('"vp", beta', '"vpp", beta', "line 5: 'sde'"),
        ('"vp", beta', '"ve", beta', "line 5: 'sde'"),
        ("beta_max = 20", 'beta_max = "20"', "line 5: 'sde'"),
        ("beta_max = 20", "betamax = 20", "line 5: 'sde'"),
        ('sha256 = ""', 'sha256 = "00"', "line 9: 'sha256'"),
        ('"embedded:one.safetensors"', '"hub:one"', "line 8: 'source'"),
        ('"embedded:one.safetensors"', '"hub:../one"', "line 8: 'source'"),
        ('"embedded:one.safetensors"', '"hub:o/one"', r"line 2: \[one\] lacks the key 'file'"),
        ("# a comment", "stray = 1", "line 1: 'stray'"),
        ("[one]", "[one", "line 2"),
    ],
)
def test_an_error_states_line_and_key(tmp_path, old, new, named):
    with pytest.raises(ConfigError, match=named):
        read_manifest(write(tmp_path, GOOD_MANIFEST.replace(old, new)))


def test_a_misspelt_key_gets_a_suggestion(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read_manifest(write(tmp_path, GOOD_MANIFEST.replace("license", "licence")))
    assert "'license'" in caught.value.hint


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_an_unreadable_file_is_a_config_error(tmp_path, content, monkeypatch):
    path = tmp_path / "checkpoints.toml"
    if content:
        path.write_bytes(content)
    monkeypatch.setenv("GGF_MANIFEST", str(path))
    with pytest.raises(ConfigError, match=r"checkpoints\.toml"):
        read_manifest()


def test_ggf_manifest_sets_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("GGF_MANIFEST", str(write(tmp_path, GOOD_MANIFEST)))
    assert list(read_manifest()) == ["one"]


def test_an_editable_install_finds_the_file_at_the_root_of_the_repository(monkeypatch):
    monkeypatch.delenv("GGF_MANIFEST", raising=False)
    root = ROOT
    assert manifest.find_manifest() == root / "checkpoints.toml"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The unpacked wheel, with the files as `pip install` places them."""
    out = tmp_path_factory.mktemp("wheel")
    root = ROOT
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, root],
        check=True,
        capture_output=True,
    )
    (file,) = out.glob("*.whl")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", file, out / "site"], check=True)
    return out / "site"


def test_a_wheel_contains_the_registry_and_the_weights(wheel, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    environment.pop("GGF_MANIFEST", None)
    code = (
        "import ggf_cli, ggf_cli.checkpoints.manifest as m; print(m.find_manifest());"
        "print(ggf_cli.load_model('fashion-vp').shape, ggf_cli.load_model('mixture').shape)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert out.splitlines() == [str(wheel / "ggf_cli/checkpoints.toml"), "(1, 28, 28) (3, 16, 16)"]
    assert (wheel / "ggf_cli/schemas/run-1.json").is_file()


EMBEDDED = [name for name, entry in read_manifest().items() if entry.kind == manifest.EMBEDDED]


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_registry_agrees_with_the_embedded_file(name):
    from ggf_cli.networks import NETWORKS

    entry = read_manifest()[name]
    checkpoint = native.read(local_path(entry))
    network = NETWORKS[checkpoint.network].load()(**checkpoint.network_config)
    assert file_sha256(local_path(entry)) == entry.sha256
    # An exact model has a score under any SDE.
    if checkpoint.parametrization != "exact":
        # Only the file states the range of the data.
        registered = sde_from_dict(entry.sde)
        assert replace(registered, data_range=checkpoint.sde.data_range) == checkpoint.sde
    assert checkpoint.shape == entry.shape
    assert sum(p.numel() for p in network.parameters()) == entry.parameters
    assert checkpoint.provenance["license"] == entry.license


@pytest.mark.parametrize("name", read_manifest())
def test_every_block_names_an_sde_that_exists(name):
    entry = read_manifest()[name]
    assert sde_from_dict(entry.sde).name == entry.sde["name"]
    assert entry.license


def test_sigma_max_is_that_of_the_training():
    """All scheduler files on the hub but one state 380."""
    sigma_max = {n: e.sde["sigma_max"] for n, e in read_manifest().items() if e.sde["name"] == "ve"}
    assert sigma_max == {
        "fashion-ve": 45,
        "fashion-mixture-ve": 45,
        "church": 380,
        "bedroom": 378,
        "ffhq-256": 348,
        "celebahq-256": 348,
        "ffhq-1024": 1348,
        "cifar10-ve": 50,
        "cifar10-ve-deep": 50,
    }


def test_an_unregistered_repository_gives_an_entry():
    entry = find_model("hf:someone/some-ddpm@abc123")
    assert (entry.place, entry.revision, entry.sde) == ("someone/some-ddpm", "abc123", {})


def test_a_registered_repository_given_by_its_address_has_the_registered_values():
    ffhq = read_manifest()["ffhq-256"]
    entry = find_model("hf:google/ncsnpp-ffhq-256")
    assert (entry.sde, entry.sha256, entry.file) == (ffhq.sde, ffhq.sha256, ffhq.file)
    other = find_model("hf:google/ncsnpp-ffhq-256@0123456")
    assert (other.sde, other.sha256) == (ffhq.sde, "")


@pytest.mark.parametrize("name", ["hf:", "hf:one", "hf:../a", "hf:a/b/c", "hf:a/b c"])
def test_invalid_names_of_repositories_are_refused(name):
    with pytest.raises(CheckpointError, match="is not the name of a repository"):
        find_model(name)
