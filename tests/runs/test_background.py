"""Writing on a thread of its own: in order, bounded, and nothing lost."""

import json
import os
import signal
import threading
import time

import pytest

from command import ggf
from ggf_cli.errors import OutputError
from ggf_cli.runs.background import Background, background
from ggf_cli.runs.writer import RunWriter
from patience import PATIENCE

RUN = ["sample", "--model", "mixture", "--eps-rel", "0.5", "--batch-size", "4"]


def test_work_is_done_in_order_and_all_of_it_before_the_end():
    done = []
    with background(lambda i: (time.sleep(0.001), done.append(i)), room=4) as queue:
        for i in range(50):
            queue.put(i)
    assert done == list(range(50))


def test_who_asks_waits_only_when_the_queue_is_full():
    gate, begun, done, asked = threading.Event(), threading.Event(), [], []

    def work(i):
        begun.set()
        assert gate.wait(PATIENCE)
        done.append(i)

    queue = Background(work, room=3)

    def ask():
        for i in range(6):
            queue.put(i)
            asked.append(i)

    asking = threading.Thread(target=ask)
    asking.start()
    assert begun.wait(PATIENCE)
    end = time.monotonic() + PATIENCE
    while len(asked) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.05)
    assert (asked, done) == ([0, 1, 2, 3], [])  # one is being worked on, three wait
    gate.set()
    asking.join(PATIENCE)
    queue.close()
    assert done == list(range(6))


def test_an_error_comes_out_once_and_nothing_is_done_after_it():
    done = []

    def work(i):
        if i == 2:
            raise OutputError("no space left")
        done.append(i)

    queue = Background(work, room=2)
    for i in range(3):
        queue.put(i)

    def soon():
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            queue.check()

    with pytest.raises(OutputError, match="no space left"):
        soon()
    for i in range(3, 20):  # dropped; it does not block
        queue.put(i)
    queue.close()
    assert done == [0, 1]

    with pytest.raises(OutputError), background(work, room=9) as queue:
        queue.put(2)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_waits_is_done_when_the_block_fails_and_its_error_is_told(error):
    done = []

    def work(i):
        time.sleep(0.01)
        done.append(i)
        if i == 4:
            raise OutputError("no space left")

    def fails():
        with background(work, room=9) as queue:
            for i in range(5):
                queue.put(i)
            raise error

    with pytest.raises(error):
        fails()
    assert done == list(range(5))


def slow(monkeypatch, at, what):
    """Writing takes 20 ms, and something happens at one sample; what was asked to be written."""
    asked = []
    add, put = RunWriter.add, Background.put

    def adds(self, finished, *rest):
        time.sleep(0.02)
        if len(self.samples) == at:
            what()
        add(self, finished, *rest)

    def puts(self, *arguments):
        put(self, *arguments)
        asked.append(arguments[0].index)

    monkeypatch.setattr(RunWriter, "add", adds)
    monkeypatch.setattr(Background, "put", puts)
    return asked


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_what_is_drawn_be_written(tmp_path, monkeypatch, number):
    asked = slow(monkeypatch, 3, lambda: os.kill(os.getpid(), number))
    done = ggf(*RUN, "--n", 60, "--out", tmp_path / "run")
    assert done.exit_code == 130
    log = json.loads((tmp_path / "run/run.json").read_text())
    assert len(asked) < 60
    assert sorted(sample["index"] for sample in log["samples"]) == sorted(asked)
    assert len(list((tmp_path / "run/samples").iterdir())) == len(asked)
    monkeypatch.undo()
    assert ggf(*RUN, "--n", 60, "--out", tmp_path / "run", "--resume").exit_code == 0


def test_an_error_of_the_writer_stops_the_sampling_at_once(tmp_path, monkeypatch):
    def full():
        raise OutputError("no space left while writing it", hint="free some space")

    asked = slow(monkeypatch, 2, full)
    done = ggf(*RUN, "--n", 100, "--out", tmp_path / "run")
    assert done.exit_code == 5
    assert "no space left while writing it" in done.stderr
    log = json.loads((tmp_path / "run/run.json").read_text())
    assert (log["status"], len(log["samples"])) == ("failed", 2)
    assert len(asked) < 60


def test_the_queue_is_bounded_in_bytes_too(tmp_path):
    def room(side):
        settings = {"model": {"shape": [3, side, side]}, "grid": [1, 1], "format": "png", "device": "cpu", "versions": {}}  # fmt: skip
        folder = tmp_path / str(side)
        folder.mkdir()
        writer = RunWriter(folder, range(2), settings, spent=lambda: (0, 0, 0.0))
        writer.end()
        return writer.room

    assert [room(side) for side in (32, 1024, 8192)] == [64, 10, 2]
