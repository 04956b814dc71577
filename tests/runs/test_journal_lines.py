"""Invalid values in the lines of a journal.

Each key of each kind of line gets each invalid value. The line is left out with a note, or the
journal is refused with the number of the line.
"""

import copy
import json
import shutil
from contextlib import suppress

import pytest
from msgspec import convert, structs

from fault_scenes import RUN, ended, outcome_of, run_content, unended
from ggf_cli.errors import OutputError
from ggf_cli.runs import history
from ggf_cli.runs.documents import RunSettings
from ggf_cli.runs.history import read_history
from ggf_cli.runs.resume import find_earlier_run

pytestmark = pytest.mark.usefixtures("small_files")

DEEP = json.loads("[" * 200 + "]" * 200)
INVALID = {
    "null": None,
    "true": True,
    "text": "x",
    "a list": [1],
    "an object": {"a": 1},
    "NaN": float("nan"),
    "inf": float("inf"),
    "a fraction": 1.5,
    "negative": -1,
    "10^400": 10**400,
    "2^63": 2**63,
    "10^300": 1e300,
    "deep": DEEP,
    "long": "x" * 5000,
}
# {name of a value of INVALID: the keys for which it is valid}
VALID_FOR = {
    "null": {"sha256"},
    "text": {"started_at", "device", "shard"},
    "long": {"started_at", "device", "shard"},
    "a fraction": {"t"},
    "negative": {"t"},
    "true": set(),
}
MISSING = object()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("journals")


@pytest.fixture(scope="module")
def begun(place):
    """{format: folder} of runs with two of three samples; the .npz run has a shard too."""
    folders = {}
    for format in ("png", "npz"):
        folders[format] = place / format
        folders[format].mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ggf_cli.runs.sample_files.SHARD_SAMPLES", 2)
            unended(format)(folders[format])
    return folders


def entries(folder):
    return [json.loads(line) for line in journal(folder).read_text().splitlines()]


def journal(folder):
    return folder / "run/journal-0.jsonl"


def write(folder, lines):
    journal(folder).write_text("".join(json.dumps(line) + "\n" for line in lines))


def variants(line, kind):
    """(key, name of the invalid value, the line with that value), for each key of a line."""
    inside = line["session"] if kind == "session" else line
    for key in inside:
        for name, value in {**INVALID, "missing": MISSING}.items():
            if key in VALID_FOR.get(name, ()):
                continue
            if name == "missing" and key in (kind, "t", "spent"):
                continue
            changed = copy.deepcopy(line)
            place = changed["session"] if kind == "session" else changed
            if value is MISSING:
                del place[key]
            else:
                place[key] = value
            yield key, name, changed


def line_of(lines, kind):
    return next(line for line in lines if kind in line)


@pytest.mark.parametrize("kind", ["index", "shard", "spent"])
def test_a_line_with_an_invalid_value_is_left_out_with_a_note(begun, tmp_path, kind):
    folder = shutil.copytree(begun["npz"], tmp_path / "f")
    lines = entries(folder)
    before = read_history(folder / "run")
    good = {"spent": [1, 2, 0.5]} if kind == "spent" else line_of(lines, kind)
    tried = 0
    for key, name, changed in variants(good, kind):
        write(folder, [*lines, changed])
        found = read_history(folder / "run")
        (note,) = found.left_out
        assert note.startswith(f"{journal(folder)}, line {len(lines) + 1}: "), (key, name)
        assert key in note, (key, name, note)
        assert len(note) < 300
        assert (found.records, found.shards) == (before.records, before.shards), (key, name)
        tried += 1
    assert tried >= 12


def test_invalid_lines_do_not_change_the_result_of_a_resumed_run(begun, tmp_path, place):
    """They come last, and so would override the valid lines."""
    folder, whole = shutil.copytree(begun["npz"], tmp_path / "f"), tmp_path / "whole"
    whole.mkdir()
    ended([*RUN, "--format", "npz"])(whole)
    lines = entries(folder)
    invalid = [v[2] for kind in ("index", "shard") for v in variants(line_of(lines, kind), kind)]
    write(folder, [*lines, *invalid])
    done = outcome_of(*RUN, "--format", "npz", "--resume", "--out", folder / "run")
    assert done.code == 0, done
    assert f"left out of the journal: {journal(folder)}, line {len(lines) + 1}: " in done.said
    assert f", and {len(invalid) - 1} more" in done.said
    assert run_content(folder) == run_content(whole)


def test_a_session_with_an_invalid_value_is_refused_with_its_line(begun, tmp_path):
    """Otherwise the lines that follow would count for another session."""
    folder = shutil.copytree(begun["png"], tmp_path / "f")
    lines = entries(folder)
    number = next(i for i, line in enumerate(lines) if "session" in line)
    for key, name, changed in variants(lines[number], "session"):
        write(folder, [*lines[:number], changed, *lines[number + 1 :]])
        with pytest.raises(OutputError) as caught:
            read_history(folder / "run")
        assert f"{journal(folder)}, line {number + 1}: " in caught.value.message, (key, name)
        assert key in caught.value.message
    done = outcome_of(*RUN, "--resume", "--out", folder / "run")
    assert done.code == 5
    assert f"line {number + 1}: " in done.said
    for value in INVALID.values():
        write(folder, [lines[0], {"session": value}])
        if value != {"a": 1}:
            with pytest.raises(OutputError, match="line 2: "):
                read_history(folder / "run")


def test_a_first_line_with_an_invalid_value_is_refused(begun, tmp_path):
    """Each value, at any depth. The journal is damaged or of another run: nothing is drawn."""
    folder = shutil.copytree(begun["png"], tmp_path / "f")
    first, *rest = entries(folder)
    settings = convert(first, RunSettings)
    not_compared = {
        "command",
        "started_at",
        "versions",
        "num_samples",
        "device",
        "noise",
        "source",
        "parameters",
        "name",
        "shape",
    }
    refused = 0
    for path in paths(first):
        for name, value in {**INVALID, "missing": MISSING}.items():
            changed = copy.deepcopy(first)
            put(changed, path, value)
            if changed == first:
                continue
            write(folder, [changed, *rest])
            with suppress(OutputError):
                find_earlier_run(folder / "run", settings)
                # A value of the right type that does not make it another run.
                assert set(path) & not_compared or name == "missing", (path, name)
                continue
            refused += 1
    assert refused > 300


def paths(document, here=()):
    """Yield the keys that lead to each value in an object."""
    for key, value in document.items():
        yield (*here, key)
        if isinstance(value, dict):
            yield from paths(value, (*here, key))


def put(document, path, value):
    for key in path[:-1]:
        document = document[key]
    if value is MISSING:
        del document[path[-1]]
    else:
        document[path[-1]] = value


def test_the_last_line_of_a_sample_counts(begun, tmp_path):
    folder = shutil.copytree(begun["png"], tmp_path / "f")
    lines = entries(folder)
    again = {**line_of(lines, "index"), "sha256": "0" * 64}
    write(folder, [*lines, again])
    done = outcome_of(*RUN, "--resume", "--out", folder / "run")
    assert done.code == 0
    assert "resuming: 1 of 3 samples are finished and kept" in done.said
    assert "1 more were finished, but their files are missing or changed: drawn again" in done.said


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [("index", "index", lambda i: 1000 + i), ("shard", "shard", str), ("session", "session", None)],
)
def test_more_lines_than_a_run_has_are_refused(begun, tmp_path, monkeypatch, kind, key, value):
    """Otherwise an untrusted journal could take any amount of memory."""
    monkeypatch.setattr(history, "MANY", 3)
    folder = shutil.copytree(begun["npz"], tmp_path / "f")
    lines = entries(folder)
    good = line_of(lines, kind)
    more = [{**good, key: value(i) if value else good[key]} for i in range(10)]
    write(folder, [*lines, *more])
    done = outcome_of(*RUN, "--format", "npz", "--resume", "--out", folder / "run")
    assert done.code == 5
    assert f": more {kind} lines than a run has" in done.said


@pytest.mark.parametrize(
    "between", [b"\0" * 300_000, b"\0" * 300_000 + b"\n", b'{"index": "' + b"x" * 300_000 + b'"}\n']
)
def test_an_invalid_line_of_any_length_is_skipped(begun, tmp_path, between):
    folder = shutil.copytree(begun["png"], tmp_path / "f")
    text = journal(folder).read_bytes()
    cut = text.index(b"\n", text.index(b"\n") + 1) + 1
    journal(folder).write_bytes(text[:cut] + between + text[cut:])
    found = read_history(folder / "run")
    assert len(found.records) == (2 if between.endswith(b"\n") else 1)


def test_a_journal_larger_than_the_limit_is_not_read(begun, tmp_path, monkeypatch):
    folder = shutil.copytree(begun["png"], tmp_path / "f")
    monkeypatch.setattr(history, "MAX_JOURNAL", 1000)
    done = outcome_of(*RUN, "--resume", "--out", folder / "run")
    assert done.code == 5
    assert f"cannot read {journal(folder)}: it has " in done.said
    assert "more than 1,000 bytes" in done.said


def test_a_journal_of_another_run_is_not_continued(begun, tmp_path):
    """Even where it was not checked at the start: workers other than rank 0 may have an old one."""
    from ggf_cli.runs.journal import Journal

    folder = shutil.copytree(begun["png"], tmp_path / "f")
    settings = convert(entries(folder)[0], RunSettings)
    Journal(folder / "run", settings).close()
    with pytest.raises(OutputError, match=r"is of a run with other settings: `seed` was 0, is 1"):
        Journal(folder / "run", structs.replace(settings, seed=1))
