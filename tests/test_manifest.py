import os
import subprocess
import sys
from pathlib import Path

import pytest

from ggf_cli.checkpoints import manifest, native
from ggf_cli.checkpoints.manifest import read_manifest
from ggf_cli.errors import ConfigError

GOOD = """\
# a comment
[one]
summary = "s"
dataset = "d"
sde = "vp"
shape = [1, 2, 2]
parameters = 3
source = "embedded:one.safetensors"
sha256 = "00"
license = "MIT"
"""


def write(tmp_path, text):
    path = tmp_path / "checkpoints.toml"
    path.write_text(text)
    return path


def test_a_good_file_is_read(tmp_path):
    entry = read_manifest(write(tmp_path, GOOD))["one"]
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
        ('sde = "vp"', 'sde = "vpp"', "line 5: 'sde'"),
        ("# a comment", "stray = 1", "line 1: 'stray'"),
        ("[one]", "[one", "line 2"),
    ],
)
def test_a_broken_file_is_told_by_line_and_key(tmp_path, old, new, named):
    with pytest.raises(ConfigError, match=named):
        read_manifest(write(tmp_path, GOOD.replace(old, new)))


def test_a_misspelt_key_gets_a_suggestion(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read_manifest(write(tmp_path, GOOD.replace("license", "licence")))
    assert "'license'" in caught.value.hint


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_an_unreadable_file_is_a_config_error(tmp_path, content, monkeypatch):
    path = tmp_path / "checkpoints.toml"
    if content:
        path.write_bytes(content)
    monkeypatch.setenv("GGF_MANIFEST", str(path))
    with pytest.raises(ConfigError, match=r"checkpoints\.toml"):
        read_manifest()


def test_the_environment_names_another_file(tmp_path, monkeypatch):
    monkeypatch.setenv("GGF_MANIFEST", str(write(tmp_path, GOOD)))
    assert list(read_manifest()) == ["one"]


def test_an_editable_install_finds_the_file_at_the_root_of_the_repository(monkeypatch):
    monkeypatch.delenv("GGF_MANIFEST", raising=False)
    root = Path(__file__).parents[1]
    assert manifest.find_manifest() == root / "checkpoints.toml"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The unpacked wheel, as `pip install` lays it out."""
    out = tmp_path_factory.mktemp("wheel")
    root = Path(__file__).parents[1]
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, root],
        check=True,
        capture_output=True,
    )
    (file,) = out.glob("*.whl")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", file, out / "site"], check=True)
    return out / "site"


def test_a_wheel_brings_its_own_file_and_weights(wheel, tmp_path):
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


@pytest.mark.parametrize("name", read_manifest())
def test_the_registry_says_what_the_embedded_file_says(name):
    from ggf_cli.networks import NETWORKS

    entry = read_manifest()[name]
    checkpoint = native.read(entry.path)
    network = NETWORKS[checkpoint.network].load()(**checkpoint.network_config)
    assert native.file_sha256(entry.path) == entry.sha256
    assert checkpoint.sde.name == entry.sde
    assert checkpoint.shape == entry.shape
    assert sum(p.numel() for p in network.parameters()) == entry.parameters
    assert checkpoint.provenance["license"] == entry.license
