"""Pipes, sockets, devices, links, folders and huge files in the place of a file of a run.

Each command ends in success or a clear error, in bounded time and memory, and touches nothing
outside its folder.
"""

import json
import os
import shutil
import socket
import sys

import pytest

from fault_scenes import RUN, comparing, comparison_content, ended, outcome_of, unended
from fuzzing import kept_promise

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs pipes, devices and sparse files"),
    pytest.mark.usefixtures("small_files"),
]

PRECIOUS = "keep this\n"


def pipe(path, outside):
    os.mkfifo(path)


def listening(path, outside):
    with socket.socket(socket.AF_UNIX) as server:
        # By this short path, because the address of a socket has a limited length.
        here = os.open(path.parent, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)


def sparse(path, outside):
    with path.open("wb") as file:
        file.truncate(100 * 2**30)


def endless(path, outside):
    path.symlink_to("/dev/zero")


THINGS = {
    "a pipe": pipe,
    "a socket": listening,
    "a folder": lambda path, outside: path.mkdir(),
    "a file of 100 GB": sparse,
    "a link to an endless device": endless,
    "a link to a file outside": lambda path, outside: path.symlink_to(outside),
    "a link to itself": lambda path, outside: path.symlink_to(path),
    "a link that leads nowhere": lambda path, outside: path.symlink_to(outside / "nothing"),
    "an empty file": lambda path, outside: path.touch(),
}

FORMAT = ["--format", "npz"]
# {state of a folder: (function that makes it, the commands to try, the paths in it to replace)}
STATES = {
    "fresh": (
        lambda folder: (folder / "run").mkdir(),
        ["--resume", "--force"],
        [
            ".running",
            ".journal-0.jsonl.part",
            ".run.json.part",
            "journal-0.jsonl",
            "journal-3.jsonl",
            "run.json",
            "samples",
            ".parts",
            "grid.png",
            ".grid.png.part",
        ],
    ),
    "unended": (
        unended("png"),
        ["--resume", "--force"],
        [
            "journal-0.jsonl",
            "journal-1.jsonl",
            "samples/000000.png",
            "samples/.000001.png.part",
            "samples/000002.png",
        ],
    ),
    "unended npz": (
        unended("npz"),
        ["--resume"],
        [
            "samples-00000-of-00002.npz",
            ".parts/000002.npy",
            ".parts/.000002.npy.part",
            ".samples-00001-of-00002.npz.part",
        ],
    ),
    "ended": (
        ended(RUN),
        ["show", "show --check", "show image", "--resume", "--force"],
        ["run.json", "samples/000001.png", "grid.png", "journal-0.jsonl"],
    ),
    "comparison": (
        lambda folder: comparing(folder),
        ["show", "show --check", "compare"],
        [
            "compare.json",
            ".compare.json.part",
            "cells",
            "cells/em-1/0/run.json",
            "cells/em-1/0/samples.npz",
            "cells/em-2/1/.samples.npz.part",
            ".lock",
            "report.html",
        ],
    ),
}
PLACES = [(state, place) for state, (_, _, places) in STATES.items() for place in places]


def act(command, folder, state):
    run = folder / "run"
    match command:
        case "compare":
            return comparing(folder)
        case "show image":
            return outcome_of("show", run / "samples/000001.png")
        case "show" | "show --check":
            return outcome_of(*command.replace("show", f"show {run}").split())
    return outcome_of(*RUN, *(FORMAT if "npz" in state else []), command, "--out", run)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A function that returns the folder of a state, made once."""
    place, made = tmp_path_factory.mktemp("states"), {}

    def get(state):
        if state not in made:
            made[state] = place / state.replace(" ", "-")
            made[state].mkdir()
            STATES[state][0](made[state])
        return made[state]

    return get


def case(number, state, place, thing):
    # All but every fourth case are slow.
    marks = [pytest.mark.slow] if number % 4 else []
    return pytest.param(state, place, thing, id=f"{state}-{place}-{thing}", marks=marks)


CASES = [
    case(i + j, state, place, thing)
    for i, (state, place) in enumerate(PLACES)
    for j, thing in enumerate(THINGS)
]


@pytest.mark.parametrize(("state", "place", "thing"), CASES)
def test_a_thing_in_the_place_of_a_file_does_no_harm(tmp_path, prepared, state, place, thing):
    outside = tmp_path / "outside"
    outside.write_text(PRECIOUS)
    for number, command in enumerate(STATES[state][1]):
        folder = shutil.copytree(prepared(state), tmp_path / str(number))
        path = folder / "run" / place
        path.parent.mkdir(exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        THINGS[thing](path, outside)
        with kept_promise(10_000):
            done = act(command, folder, state)
        assert done.code in (0, 2, 3, 5), (command, done)
        assert done.code == 0 or done.said.startswith("error: ") or "\nerror: " in done.said, done
        assert outside.read_text() == PRECIOUS
        # The files of an ended run are checked by --check only.
        drawn = command == "--force" or (command == "--resume" and state != "ended")
        if done.code == 0 and drawn:
            log = json.loads((folder / "run/run.json").read_text())
            assert log["status"] == "completed"
            assert outcome_of("show", folder / "run", "--check").code == 0


def test_a_run_of_a_comparison_is_drawn_again_if_its_samples_are_not_a_file(tmp_path, prepared):
    """The result is that of an undamaged comparison."""
    folder = shutil.copytree(prepared("comparison"), tmp_path / "c")
    before = comparison_content(folder)
    samples = folder / "run/cells/em-1/0/samples.npz"
    samples.unlink()
    os.mkfifo(samples)
    assert comparing(folder).code == 0
    assert comparison_content(folder) == before


def test_all_things_and_places_are_tried():
    fast = [case for case in CASES if not case.marks]
    assert {case.values[2] for case in fast} == set(THINGS)
    assert PLACES
    assert {case.values[:2] for case in fast} == set(PLACES)
