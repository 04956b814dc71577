"""Attacks by untrusted files and addresses, one test each; `test_fuzz.py` tries random inputs."""

import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from command import ggf
from ggf_cli.checkpoints import archive, diffusers, native, tensors
from ggf_cli.checkpoints.fetch import _check_address
from ggf_cli.checkpoints.load import load_model, read_checkpoint
from ggf_cli.checkpoints.locate import local_path
from ggf_cli.checkpoints.manifest import read_manifest
from ggf_cli.errors import CheckpointError, ConfigError, UsageError
from ggf_cli.metrics.reference_files import ImageFolder, read_statistics
from manifests import GOOD_MANIFEST
from paths import ROOT

MIXTURE = local_path(read_manifest()["mixture"])


@contextmanager
def memory_below(limit):
    """Limit the memory of Python and numpy; memory of torch is not counted."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def refused(path, message=""):
    with pytest.raises(CheckpointError, match=message or None), memory_below(50_000_000):
        tensors.read_tensors(path)


# --- pickles --------------------------------------------------------------------------------------


class Call:
    """Pickled as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "harm",
    [
        Call(os.system, "touch harmed"),
        Call(eval, "open('harmed', 'w')"),
        Call(bytearray, 10**10),
        Call(torch.FloatTensor, 10**9),
        Call(complex, 1, 2),
    ],
    ids=["system", "eval", "bytearray", "tensor", "complex"],
)
def test_nothing_in_a_pickle_is_called(tmp_path, monkeypatch, harm, legacy):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.bin"
    torch.save({"a": harm}, path, _use_new_zipfile_serialization=not legacy)
    refused(path, "has other objects than tensors")
    assert not (tmp_path / "harmed").exists()


def test_a_bare_pickle_is_refused(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(pickle.dumps({"a": Call(bytearray, 10**10)}, protocol=2))
    refused(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_table_of_tensors_is_read(tmp_path, legacy):
    path = tmp_path / "weights.bin"
    content = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.nn.Parameter(torch.ones(2).half())}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    read = tensors.read_tensors(path)
    assert all(torch.equal(read[name], content[name]) for name in content)


def test_an_expanded_view_larger_than_the_file_is_refused(tmp_path):
    path = tmp_path / "weights.bin"
    torch.save({"a": torch.zeros(1).expand(2**20, 2**20)}, path)
    refused(path, "its tensors have 4,398,046,511,104 bytes")


def test_tensors_that_share_their_numbers_are_refused(tmp_path):
    path = tmp_path / "weights.bin"
    one = torch.zeros(100_000)
    torch.save({f"a{i}": one.view(100_000) for i in range(100)}, path)
    refused(path, "its tensors have 40,000,000 bytes")


@pytest.mark.parametrize("padding", [0, 10**8])
def test_a_compressed_record_is_refused(tmp_path, padding):
    torch.save({"a": torch.zeros(10)}, tmp_path / "weights.bin")
    with (
        zipfile.ZipFile(tmp_path / "weights.bin") as whole,
        zipfile.ZipFile(tmp_path / "small.bin", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for record in whole.infolist():
            small.writestr(
                record.filename, whole.read(record) + bytes(padding) * (".pkl" in record.filename)
            )
    assert (tmp_path / "small.bin").stat().st_size < 10**6
    refused(tmp_path / "small.bin", "is compressed")


def test_a_pickle_of_many_empty_tables_is_refused(tmp_path, monkeypatch):
    """Each byte of the pickle creates a table of 64 bytes."""
    monkeypatch.setattr(archive, "MAX_OPERATIONS", 1000)
    path = tmp_path / "weights.bin"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("weights/data.pkl", b"\x80\x02" + b"}" * 2000 + b".")
    refused(path, "more than 1,000 operations")


def test_a_pickle_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "weights.bin"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("weights/data.pkl", bytes(archive.MAX_PICKLE + 1))
    refused(path, "its pickle has")


# --- safetensors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stated", [2**63, 2**40, 10_000, tensors.MAX_HEADER + 1])
def test_a_header_longer_than_the_file_is_refused(tmp_path, stated):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", stated) + b"{}")
    for read in (tensors.read_tensors, native.read):
        with pytest.raises(CheckpointError, match="a header of"), memory_below(1_000_000):
            read(path)


def test_a_header_longer_than_the_limit_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 5_000_000) + b" " * 5_000_000)
    with pytest.raises(CheckpointError, match="a header of 5,000,000 bytes"), memory_below(10**6):
        native.read(path)


@pytest.mark.parametrize("name", ["pipe.safetensors", "pipe.bin", "pipe.pth"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(CheckpointError, match=r"neither a file nor a folder|is not a file"):
        read_checkpoint(tmp_path / name)
    refused(tmp_path / name)


def described(tmp_path, change):
    """A file of the exact model with changed metadata."""
    checkpoint = native.read(MIXTURE)
    document = {
        "schema": native.NATIVE_SCHEMA,
        "network": {"name": checkpoint.network, "config": checkpoint.network_config},
        "parametrization": checkpoint.parametrization,
        "sde": checkpoint.sde.to_dict(),
        "shape": list(checkpoint.shape),
        "provenance": {},
    }
    path = tmp_path / "model.safetensors"
    save_file(checkpoint.tensors, path, {"ggf": json.dumps({**document, **change})})
    return path


UNET = {
    "image_channels": 3,
    "channels": [32],
    "attention_down": [False],
    "attention_up": [False],
}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"blocks": 10**9}, "number of blocks 1000000000"),
        ({"blocks": True}, "number of blocks True"),
        ({"channels": [32] * 17}, "17 levels"),
        ({"channels": [2**40]}, "width 1099511627776"),
        ({"channels": [32.0]}, "width 32.0"),
        ({"patch": 10**30}, "patch 1000"),
        ({"image_channels": 10**12}, "does not work"),
        ({"groups": 10**30}, "does not|not multiples"),
    ],
)
def test_a_huge_network_is_refused_before_it_is_built(tmp_path, config, message):
    path = described(
        tmp_path,
        {
            "network": {"name": "unet", "config": {**UNET, **config}},
            "parametrization": "vp-continuous",
        },
    )
    with pytest.raises(CheckpointError, match=message), memory_below(20_000_000):
        load_model(path)


@pytest.mark.parametrize("shape", [[1, 2**15, 2**15], [2**27], [10**30]])
def test_huge_samples_are_refused(tmp_path, shape):
    with pytest.raises(CheckpointError, match="is not the shape of a sample"):
        load_model(described(tmp_path, {"shape": shape}))


def test_weights_of_one_byte_each_are_refused(tmp_path):
    """In the network they would have four bytes each."""
    checkpoint = native.read(MIXTURE)
    checkpoint.tensors["mean"] = checkpoint.tensors["mean"].to(torch.float8_e4m3fn)
    (tmp_path / "model.safetensors").write_bytes(native.to_bytes(checkpoint))
    with pytest.raises(CheckpointError, match="float8"):
        load_model(tmp_path / "model.safetensors")


@pytest.mark.parametrize("provenance", [None, 3, "text", [1]])
def test_a_provenance_that_is_no_table_is_refused(tmp_path, provenance):
    with pytest.raises(CheckpointError, match=r"the metadata of .* are not valid"):
        load_model(described(tmp_path, {"provenance": provenance}))


# --- configurations and the registry --------------------------------------------------------------


def test_a_huge_configuration_is_not_read(tmp_path):
    (tmp_path / "config.json").write_text(" " * (diffusers.MAX_CONFIG + 1))
    with pytest.raises(CheckpointError, match="it has 1,048,577 bytes"), memory_below(1_000_000):
        diffusers.read(tmp_path)


def test_a_configuration_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(CheckpointError, match="it is not a file"):
        diffusers.read(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[one]", '["../../one"]'),
        ("[one]", '["/one"]'),
        ("[one]", '[".one"]'),
        ("[one]", '["a\\u001b[31m"]'),
        ('summary = "s"', 'summary = "\\u001b[2J"'),
        ("parameters = 3", f"parameters = {10**30}"),
        ("parameters = 3", f"parameters = {'9' * 5000}"),
        ("beta_max = 20", "beta_max = inf"),
        ("shape = [1, 2, 2]", f"shape = [{10**30}]"),
        ("# a comment", "#" * 2**20),
    ],
)
def test_invalid_values_in_a_registry_are_refused(tmp_path, old, new):
    (tmp_path / "checkpoints.toml").write_text(GOOD_MANIFEST.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        read_manifest(tmp_path / "checkpoints.toml")
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


def test_brackets_in_a_registry_are_printed_as_text(tmp_path, monkeypatch):
    text = GOOD_MANIFEST.replace('summary = "s"', 'summary = "[/b] [link=http://x]s"')
    (tmp_path / "checkpoints.toml").write_text(text)
    monkeypatch.setenv("GGF_MANIFEST", str(tmp_path / "checkpoints.toml"))
    done = ggf("list-models")
    assert done.exit_code == 0
    assert "[/b] [link=http://x]s" in done.stdout


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path):
    checkpoint = native.read(MIXTURE)
    checkpoint.tensors["\x1b[2Jgone"] = torch.zeros(1)
    (tmp_path / "m.safetensors").write_bytes(native.to_bytes(checkpoint))
    done = ggf("sample", "--model", tmp_path / "m.safetensors")
    assert done.exit_code == 3
    assert "gone" in done.stderr
    assert "\x1b" not in done.stderr


# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://huggingface.co",
        "https://h:8443/x",
        "http://localhost:1",
        "http://127.0.0.1:80",
        "http://127.1.2.3",
        "http://[::1]:8",
    ],
)
def test_https_and_local_addresses_are_accepted(url):
    _check_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://huggingface.co",
        "http://127.0.0.1.evil.org",
        "http://localhost.evil.org",
        "http://user:hf_SECRET@host/",
        "ftp://host",
        "file:///etc/passwd",
        "huggingface.co",
        "",
        "http://10.0.0.1",
        "http://127.evil",
    ],
)
def test_other_addresses_are_refused_without_printing_secrets(url):
    with pytest.raises(CheckpointError, match="ggf downloads over https only") as caught:
        _check_address(url)
    assert "SECRET" not in caught.value.message + caught.value.hint


# --- references and runs --------------------------------------------------------------------------


def test_statistics_that_unpack_to_gigabytes_are_not_unpacked(tmp_path):
    path = tmp_path / "stats.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, size in (("mu", 1), ("sigma", 2)):
            header = io.BytesIO()
            fields = {"descr": "<f8", "fortran_order": False, "shape": (10**6,) * size}
            np.lib.format.write_array_header_1_0(header, fields)
            file.writestr(f"{name}.npy", header.getvalue() + bytes(10**7))
    with pytest.raises(UsageError, match=r"of shape \(1000000,\)"), memory_below(1_000_000):
        read_statistics(path, 64)


def test_statistics_of_objects_are_refused(tmp_path):
    np.savez(tmp_path / "stats.npz", mu=np.array([Call(os.system, "false")]), sigma=np.eye(1))
    with pytest.raises(UsageError, match="of type object"):
        read_statistics(tmp_path / "stats.npz", 1)


def test_a_reference_image_of_another_format_starts_no_program(tmp_path):
    """For PostScript, Pillow would start Ghostscript, even if the file is named .png."""
    Image.new("RGB", (8, 8)).save(tmp_path / "0.eps")
    for i in range(10):
        (tmp_path / f"{i}.png").write_bytes((tmp_path / "0.eps").read_bytes())
    with pytest.raises(UsageError, match="cannot be read"):
        ImageFolder(tmp_path, (3, 8, 8))


def test_the_check_of_a_run_stays_in_its_folder(tmp_path):
    run = tmp_path / "run"
    arguments = ["sample", "--model", "mixture", "--n", "2", "--eps-rel", "0.9", "--out", str(run)]
    assert ggf(*arguments).exit_code == 0
    log = json.loads((run / "run.json").read_text())
    (tmp_path / "other").write_text("x")
    (run / "link").symlink_to("/proc/kcore")
    names = ["../other", "/etc/passwd", "link"]
    log["files"] = [{"path": name, "sha256": "0" * 64} for name in names]
    (run / "run.json").write_text(json.dumps(log))
    done = ggf("show", run, "--check", "--json")
    assert json.loads(done.stdout)["files"] == dict.fromkeys(names, "outside")
    assert done.exit_code == 5


# --- the code -------------------------------------------------------------------------------------


def test_no_code_of_a_file_can_be_run():
    """No module uses a function that runs code from data."""
    import ast

    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {a.name.split(".")[0] for a in node.names} | {
                    (getattr(node, "module", None) or "").split(".")[0]
                }
                assert not names & {"pickle", "yaml", "dill", "joblib", "marshal", "shelve"}, file
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in {"eval", "exec", "compile", "os.system", "__import__"}, file
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert name != "torch.load" or keywords.get("weights_only") == "True", file
                assert name != "np.load" or keywords.get("allow_pickle", "False") == "False", file
                assert not {"trust_remote_code", "shell"} & keywords.keys(), file
