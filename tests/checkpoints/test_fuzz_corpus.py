"""Inputs found by fuzzing, reduced to minimal ones.

They caused tracebacks, or their control characters reached the terminal.
"""

import io
import json
import zipfile

import numpy as np
import pytest

from command import ggf
from comparisons import single
from fuzzing import kept_promise
from ggf_cli.checkpoints.manifest import read_manifest
from ggf_cli.comparison.folder import read_document
from ggf_cli.errors import ConfigError, OutputError, UsageError
from ggf_cli.files import sha256_of
from ggf_cli.metrics.reference_files import read_statistics
from ggf_cli.runs.documents import FileLog
from ggf_cli.runs.load import find_record
from ggf_cli.runs.load_samples import load_samples
from manifests import GOOD_MANIFEST


def test_an_unchanged_comparison_is_read(tmp_path):
    (tmp_path / "compare.json").write_text(json.dumps(single()))
    assert read_document(tmp_path) == json.loads(json.dumps(single()))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("n"),
        lambda d: d["cells"][0].pop("id"),
        lambda d: d["cells"].__setitem__(0, []),
        lambda d: d.update(repeats="3"),
        lambda d: d.update(cells={}),
        lambda d: d.update(schema="ggf-compare/9"),
    ],
    ids=["no n", "no id", "no cell", "repeats", "cells", "schema"],
)
def test_a_comparison_that_was_edited_is_refused(tmp_path, change):
    document = json.loads(json.dumps(single()))
    change(document)
    (tmp_path / "compare.json").write_text(json.dumps(document))
    with pytest.raises(OutputError, match="is damaged or no comparison"):
        read_document(tmp_path)


@pytest.mark.parametrize("name", ["[/b]", "\\u001b[2J"])
def test_an_invalid_name_of_a_model_is_refused(tmp_path, monkeypatch, name):
    (tmp_path / "c.toml").write_text(GOOD_MANIFEST.replace("[one]", f'["{name}"]'))
    monkeypatch.setenv("GGF_MANIFEST", str(tmp_path / "c.toml"))
    done = ggf("list-models")
    assert done.exit_code == 2
    assert "is not a valid name of a model" in done.stderr
    assert "\x1b" not in done.stderr


def test_control_characters_of_a_command_line_are_not_repeated():
    done = ggf("compare", "em:steps=2", "\x1b[2J")
    assert done.exit_code == 2
    assert "\x1b" not in done.stderr


def test_a_long_line_of_blanks_takes_no_long_time(tmp_path):
    """The search for the line of an error took 3.6 s for 1,600 blanks, 8 times that for 3,200."""
    text = f'[a]\nsummary = "s"\n[b]\nsummary = """\n[{" " * 500_000}\n"""\n'
    (tmp_path / "c.toml").write_text(text)
    with kept_promise(len(text)), pytest.raises(ConfigError, match=r"line 1: \[a\] lacks"):
        read_manifest(tmp_path / "c.toml")


def test_a_huge_comparison_is_not_read(tmp_path):
    with (tmp_path / "compare.json").open("wb") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(OutputError, match="more than 16,777,216 bytes"):
        read_document(tmp_path)


def arrays(damage, first="mu"):
    """A compressed archive of arrays, the first of which is damaged."""
    buffer = io.BytesIO()
    content = {"mu": np.zeros(4), "sigma": np.eye(4), "images": np.zeros((1, 2, 2, 1))}
    np.savez_compressed(buffer, **{first: content.pop(first)}, **content)
    content = bytearray(buffer.getvalue())
    directory = content.index(b"PK\x01\x02")
    start = 30 + int.from_bytes(content[26:28], "little") + int.from_bytes(content[28:30], "little")
    match damage:
        # Raises zlib.error.
        case "stream":
            content[start : start + 4] = b"\xff\xff\xff\xff"
        # Raises NotImplementedError: compressed patched data.
        case "flags":
            content[6] |= 0x20
            content[directory + 8] |= 0x20
        # Raises NotImplementedError: that compression method is not supported.
        case "method":
            content[8] = content[directory + 10] = 99
        # Raises RuntimeError.
        case "encrypted":
            content[6] |= 1
            content[directory + 8] |= 1
    return bytes(content)


DAMAGES = ["stream", "flags", "method", "encrypted"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_statistics_that_are_damaged_are_refused(tmp_path, damage):
    (tmp_path / "stats.npz").write_bytes(arrays(damage))
    with pytest.raises(UsageError, match="cannot be read"):
        read_statistics(tmp_path / "stats.npz", 4)


@pytest.mark.parametrize("damage", DAMAGES)
def test_samples_of_a_run_that_are_damaged_are_refused(tmp_path, damage):
    content = arrays(damage, first="images")
    (tmp_path / "samples.npz").write_bytes(content)
    files = [FileLog(path="samples.npz", sha256=sha256_of(content))]
    with pytest.raises(OutputError, match=r"cannot read .*samples.npz"):
        load_samples(tmp_path, files)


def test_samples_of_a_run_without_index_are_refused(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, images=np.zeros((2, 8, 8, 1), np.uint8))
    (tmp_path / "samples.npz").write_bytes(buffer.getvalue())
    files = [FileLog(path="samples.npz", sha256=sha256_of(buffer.getvalue()))]
    with pytest.raises(OutputError, match="are damaged: KeyError"):
        load_samples(tmp_path, files)


def test_compressed_samples_of_a_run_are_refused(tmp_path):
    """They could unpack to any size; runs write uncompressed files."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=np.zeros((1000, 8, 8, 1), np.uint8), index=np.arange(1000))
    (tmp_path / "samples.npz").write_bytes(buffer.getvalue())
    files = [FileLog(path="samples.npz", sha256=sha256_of(buffer.getvalue()))]
    with pytest.raises(OutputError, match=r"'images\.npy' is compressed"):
        load_samples(tmp_path, files)


def test_an_undamaged_archive_is_valid():
    """So the tests above fail because of the damage."""
    with zipfile.ZipFile(io.BytesIO(arrays(""))) as file:
        assert file.testzip() is None


def test_a_run_json_that_is_an_image_is_refused(tmp_path):
    (tmp_path / "run.json").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(UsageError):
        find_record(tmp_path / "run.json")
