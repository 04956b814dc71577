"""The background writer thread: in order, with a bounded queue, and nothing lost."""

import json
import os
import signal
import threading
import time

import pytest

import ggf_cli
from command import ggf
from ggf_cli.engine import Engine
from ggf_cli.errors import OutputError
from ggf_cli.runs.background import Background, background
from ggf_cli.runs.plan import plan_run
from ggf_cli.runs.writer import RunWriter
from ggf_cli.solvers import make_solver
from patience import PATIENCE
from problems import VP

RUN = ["sample", "--model", "mixture", "--eps-rel", "0.5", "--batch-size", "4"]


def test_all_work_is_done_in_order_before_the_block_ends():
    done = []
    with background(lambda i: (time.sleep(0.001), done.append(i)), room=4) as queue:
        for i in range(50):
            queue.put(i)
    assert done == list(range(50))


def test_put_waits_only_if_the_queue_is_full():
    gate, begun, done, queued = threading.Event(), threading.Event(), [], []

    def work(i):
        begun.set()
        assert gate.wait(PATIENCE)
        done.append(i)

    queue = Background(work, room=3)

    def put_all():
        for i in range(6):
            queue.put(i)
            queued.append(i)

    thread = threading.Thread(target=put_all)
    thread.start()
    assert begun.wait(PATIENCE)
    end = time.monotonic() + PATIENCE
    while len(queued) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.05)
    # One is in progress, three wait.
    assert (queued, done) == ([0, 1, 2, 3], [])
    gate.set()
    thread.join(PATIENCE)
    queue.close()
    assert done == list(range(6))


def test_an_error_is_raised_once_and_no_work_is_done_after_it():
    done = []

    def work(i):
        if i == 2:
            raise OutputError("no space left")
        done.append(i)

    queue = Background(work, room=2)
    for i in range(3):
        queue.put(i)

    def check_until_it_raises():
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            queue.check()

    with pytest.raises(OutputError, match="no space left"):
        check_until_it_raises()
    # These are dropped, and put does not block.
    for i in range(3, 20):
        queue.put(i)
    queue.close()
    assert done == [0, 1]

    with pytest.raises(OutputError), background(work, room=9) as queue:
        queue.put(2)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_queued_work_is_done_if_the_block_fails_and_the_error_of_the_block_is_raised(error):
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


def slow_writer(monkeypatch, at, action):
    """Writing takes 20 ms, and `action` is called at one sample; the indices put in the queue."""
    queued = []
    add, put = RunWriter.add, Background.put

    def adds(self, finished, *rest):
        time.sleep(0.02)
        if len(self.samples) == at:
            action()
        add(self, finished, *rest)

    def puts(self, *arguments):
        put(self, *arguments)
        queued.append(arguments[0].index)

    monkeypatch.setattr(RunWriter, "add", adds)
    monkeypatch.setattr(Background, "put", puts)
    return queued


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_drawn_samples_are_written_after_a_signal(tmp_path, monkeypatch, number):
    queued = slow_writer(monkeypatch, 3, lambda: os.kill(os.getpid(), number))
    done = ggf(*RUN, "--n", 60, "--out", tmp_path / "run")
    assert done.exit_code == 130
    log = json.loads((tmp_path / "run/run.json").read_text())
    assert len(queued) < 60
    assert sorted(sample["index"] for sample in log["samples"]) == sorted(queued)
    assert len(list((tmp_path / "run/samples").iterdir())) == len(queued)
    monkeypatch.undo()
    assert ggf(*RUN, "--n", 60, "--out", tmp_path / "run", "--resume").exit_code == 0


def test_an_error_of_the_writer_stops_the_sampling_at_once(tmp_path, monkeypatch):
    def full():
        raise OutputError("no space left while writing it", hint="free some space")

    queued = slow_writer(monkeypatch, 2, full)
    done = ggf(*RUN, "--n", 100, "--out", tmp_path / "run")
    assert done.exit_code == 5
    assert "no space left while writing it" in done.stderr
    log = json.loads((tmp_path / "run/run.json").read_text())
    assert (log["status"], len(log["samples"])) == ("failed", 2)
    assert len(queued) < 60


def test_the_size_of_the_queue_is_limited_in_bytes_too(tmp_path):
    def room(side):
        model = ggf_cli.ScoreModel(score=lambda x, t: x, sde=VP, shape=(3, side, side))
        settings = plan_run(Engine(model, make_solver("em")), range(2), grid=(1, 1)).settings
        folder = tmp_path / str(side)
        folder.mkdir()
        writer = RunWriter(folder, range(2), settings, spent=lambda: (0, 0, 0.0))
        writer.end()
        return writer.room

    assert [room(side) for side in (32, 1024, 8192)] == [64, 10, 2]
