"""Failing file-system calls: each command succeeds or ends with a clear error, and can be resumed.

A run, a resumed run, a comparison and so on are done once to list the calls that touch their
folder, then once for each call and each error. Either only that call fails, or also all later calls
of its function. By default a few hundred cases run; all of them by

    pytest -n auto -m nightly tests/runs/test_faults.py
"""

import errno
import itertools
import shutil
import signal
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from fault_scenes import (
    MODEL,
    RUN,
    compare,
    comparing,
    comparison_content,
    ended,
    outcome_of,
    run_content,
    unended,
)
from faults import ERRNOS, Faults
from fuzzing import Hang

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds files by /proc"),
    pytest.mark.usefixtures("small_files"),
]

# A run takes 0.04 s; a busy machine may take much longer.
LONGEST_S = 60
EARLIER = [*MODEL, "--n", "5", "--steps", "1", "--seed", "1"]


# --- scenes --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """A command in a folder.

    Attributes:
        prepare: Makes the folder's content.
        act: The command, given the folder; an `Outcome`.
        again: Commands to try one after another when the fault is gone; one must succeed.
        result: Reads the content of the folder that is compared after that.
    """

    prepare: Any
    act: Any
    again: Any
    result: Any


def sampling(format, prepare=lambda folder: None, *extra):
    def act(folder, *options):
        return outcome_of(*RUN, "--format", format, *options, "--out", folder / "run")

    resume = [lambda folder: act(folder, "--resume")]
    if "--force" in extra:
        resume.append(lambda folder: act(folder, "--force"))
    return Scene(prepare, lambda folder: act(folder, *extra), resume, run_content)


def shown(*arguments):
    def act(folder):
        return outcome_of("show", *(a.replace("RUN", f"{folder}/run") for a in arguments))

    return Scene(ended(RUN), act, [act], run_content)


def show_comparison(folder):
    return outcome_of("show", folder / "run")


def half_compared(folder):
    at = ("open", "cells/em-1/1/.parts/.000003.npy.part")
    with Faults(folder / "run", at=at, error=errno.ENOSPC):
        assert compare(folder / "run").code == 5


def converting(folder):
    return outcome_of(
        "convert", folder / "model.safetensors", folder / "out.safetensors", "--force"
    )


def converted(folder):
    return (folder / "out.safetensors").read_bytes()


def copy_model(folder):
    from ggf_cli.checkpoints.manifest import PACKAGE

    shutil.copy(PACKAGE / "assets/mixture.safetensors", folder / "model.safetensors")
    shutil.copy(PACKAGE / "assets/mixture.safetensors", folder / "out.safetensors")


FORMATS = ("png", "npz", "none")
SCENES = {
    **{f"sample {format}": sampling(format) for format in FORMATS},
    **{f"resume {format}": sampling(format, unended(format), "--resume") for format in FORMATS},
    "resume an ended run": sampling("png", ended([*RUN, "--format", "png"]), "--resume"),
    "force": sampling("png", ended(EARLIER), "--force"),
    "force over an unended run": sampling("npz", unended("png"), "--force"),
    "show": shown("RUN"),
    "show an image": shown("RUN/samples/000001.png"),
    "show --check": shown("RUN", "--check"),
    "compare": Scene(lambda folder: None, comparing, [comparing], comparison_content),
    "continue comparing": Scene(half_compared, comparing, [comparing], comparison_content),
    "show a comparison": Scene(comparing, show_comparison, [comparing], comparison_content),
    "convert": Scene(copy_model, converting, [converting], converted),
}


class Stage:
    """A scene prepared once, with the list of its calls and its result without faults."""

    def __init__(self, scene, place):
        self.scene, self.place, self._number = scene, place, itertools.count()
        self.prepared = place / "prepared"
        self.prepared.mkdir()
        scene.prepare(self.prepared)
        folder = self.copy()
        with Faults(folder) as faults:
            done = scene.act(folder)
        assert done.code == 0, done.said
        self.calls, self.result = faults.calls, scene.result(folder)

    def copy(self):
        return shutil.copytree(self.prepared, self.place / str(next(self._number)))

    def play(self, at, error, again):
        """Run one case; return "error", "success", or "unmet" if the call was not made."""
        folder = self.copy()
        with in_time(), Faults(folder, at=at, error=error, again=again) as faults:
            done = self.scene.act(folder)
        where = f"{self.calls[at]} {errno.errorcode[error]}{' again' * again}: {done}"
        assert done.code in (0, 2, 3, 5), where
        assert done.code == 0 or "error: " in done.said or "Error" in done.said, where
        assert "Traceback" not in done.said, where
        for attempt in self.scene.again:
            with in_time():
                after = attempt(folder)
            if after.code == 0:
                break
        assert after.code == 0, f"{where}; then {after}"
        assert self.scene.result(folder) == self.result, where
        shutil.rmtree(folder)
        return ("error" if done.code else "success") if faults.hit else "unmet"


@contextmanager
def in_time():
    def hang(*_):
        raise Hang(f"more than {LONGEST_S} s")

    handler = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def play_all(stage, cases):
    outcomes, problems = Counter(), []
    for case in cases:
        try:
            outcomes[stage.play(*case)] += 1
        except AssertionError as problem:
            problems.append(str(problem).splitlines()[0])
    sys.stdout.write(
        f"{sum(outcomes.values())} cases: {dict(outcomes)}, {len(problems)} problems\n"
    )
    assert not problems, "\n".join([f"{len(problems)} of {len(cases)}:", *problems[:40]])
    return outcomes


# --- tests ---------------------------------------------------------------------------------------


def one_of_each(calls):
    """The number of the last call of each kind: function and kind of file."""
    kinds = {(function, kind_of(path)): number for number, (function, path) in enumerate(calls)}
    return sorted(kinds.values())


@pytest.mark.parametrize("name", SCENES)
def test_a_call_that_fails_ends_in_success_or_a_clear_error(tmp_path, name):
    """A seventh of the kinds of calls, different in each scene, with each error in turn."""
    stage, errors = Stage(SCENES[name], tmp_path), itertools.cycle(ERRNOS)
    numbers = one_of_each(stage.calls)[list(SCENES).index(name) % 7 :: 7]
    outcomes = play_all(
        stage, [(number, getattr(errno, next(errors)), number % 2 == 0) for number in numbers]
    )
    assert outcomes["unmet"] < len(numbers)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("error", ["EIO", "EACCES", "EBUSY"])
def test_a_part_that_cannot_be_removed_does_no_harm(tmp_path, error, again):
    """It is in its .npz file. The folder of parts is removed at the end of the run or on resume."""
    stage = Stage(SCENES["sample npz"], tmp_path)
    at = stage.calls.index(("unlink", "run/.parts/000000.npy"))
    assert stage.play(at, getattr(errno, error), again) == "success"


@pytest.mark.parametrize("error", ["EIO", "EINTR"])
@pytest.mark.parametrize("place", ["run/samples/.000000.png.part", "run/samples/000001.png"])
def test_a_sample_that_cannot_be_opened_is_a_clear_error(tmp_path, place, error):
    stage = Stage(SCENES["sample png"], tmp_path)
    at = stage.calls.index(("open", place))
    assert stage.play(at, getattr(errno, error), True) == "error"


@pytest.mark.nightly
@pytest.mark.parametrize("error", ERRNOS)
@pytest.mark.parametrize("name", SCENES)
def test_all_calls_fail_in_all_ways(tmp_path, name, error):
    """Each call once; and each kind of call from then on."""
    stage, error = Stage(SCENES[name], tmp_path), getattr(errno, error)
    once = [(number, error, False) for number in range(len(stage.calls))]
    play_all(stage, once + [(number, error, True) for number in one_of_each(stage.calls)])


def kind_of(path):
    """ "samples/.000003.png.part" -> "samples/.N.png.part"."""
    return "".join("N" if character.isdigit() else character for character in path)
