"""Start the real program in new processes, quickly: forked from a server that has imported it."""

import hashlib
import json
import multiprocessing
import os
import random
import signal
import socket
import sys
import time
from pathlib import Path

from patience import PATIENCE

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["program_warm"])
# The forkserver of Python 3.11 does not copy sys.path.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
).rstrip(os.pathsep)

# The samples take different numbers of steps, so that they end in another order than they start.
RUN = ["sample", "--model", "mixture", "--eps-rel", "0.5", "--n", "36", "--batch-size", "6"]


def _run(words, environment, stdout, stderr):
    for path, number in ((stdout, 1), (stderr, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    os.environ.update(environment)
    import torch

    torch.set_num_threads(1)
    if "GGF_TEST_SHARD" in environment:
        from ggf_cli.runs import sample_files as pixels

        pixels.SHARD_SAMPLES = int(environment["GGF_TEST_SHARD"])
    if "GGF_TEST_DIES_AT" in environment:
        _die_at(int(environment["GGF_TEST_DIES_AT"]), environment["GGF_TEST_DIES_IN"])
    sys.argv = ["ggf", *words]
    from ggf_cli.cli.app import app

    app(prog_name="ggf")


def _die_at(number, folder):
    """SIGKILL this process before its change number `number`, from 0, of the files in a folder.

    If the change is a line of a journal, its first half is written.
    """
    names = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}
    left, write = number, os.write

    def count():
        nonlocal left
        left -= 1
        return left < 0

    def changes(event, args):
        inside = isinstance(args[0], str | Path) and str(args[0]).startswith(folder)
        if event == "open":
            return inside and bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        # `shutil.rmtree` calls them relative to a descriptor.
        by_descriptor = event in ("os.remove", "os.rmdir") and args[-1] != -1
        return inside or by_descriptor

    def see(event, args):
        if event in names and changes(event, args) and count():
            os.kill(os.getpid(), signal.SIGKILL)

    def half(descriptor, content):
        if str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith(folder) and count():
            write(descriptor, content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(descriptor, content)

    os.write = half
    sys.addaudithook(see)


class Program:
    """A running `ggf`.

    Args:
        words: The arguments of the command line.
        log: The folder for the files of its stdout and stderr.
        environment: Environment variables to set.
    """

    def __init__(self, *words, log, **environment):
        self._log = Path(log)
        self._log.mkdir(exist_ok=True)
        self._files = [self._log / name for name in ("stdout", "stderr")]
        for file in self._files:
            file.write_text("")
        self.process = CONTEXT.Process(
            target=_run,
            args=([str(word) for word in words], environment, *map(str, self._files)),
            daemon=True,
        )
        self.process.start()

    def wait(self, timeout=PATIENCE):
        """Wait for the end; the exit code, negative for a signal."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, self.stderr
        return self.process.exitcode

    def signal(self, number):
        os.kill(self.process.pid, number)

    @property
    def stdout(self):
        return self._files[0].read_text()

    @property
    def stderr(self):
        return self._files[1].read_text()


def job(world, words, log, restarts=0, different=(None, ()), **environment):
    """Start the processes of a job as torchrun does, on a free port.

    Args:
        world: The number of processes.
        words: The arguments of the command line.
        log: The folder for their outputs.
        restarts: The restart count of torchrun.
        different: A rank and additional arguments for it.
        environment: Environment variables to set.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = Path(log)
    log.mkdir(exist_ok=True)
    return [
        Program(
            *words,
            *(different[1] if rank == different[0] else ()),
            log=log / str(rank),
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(world),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
            TORCHELASTIC_RUN_ID="test",
            TORCHELASTIC_RESTART_COUNT=str(restarts),
            **environment,
        )
        for rank in range(world)
    ]


def content(folder):
    """The results of a run: {file: sha256}, and the keys of run.json that do not depend on time."""
    found = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(folder).rglob("*")
        if path.is_file() and path.name != "run.json"
    }
    log = json.loads((Path(folder) / "run.json").read_text())
    same = ("status", "command", "model", "solver", "seed", "indices", "batch_size")
    same += ("nfe", "steps", "samples", "files")
    return found, {key: log[key] for key in same}


def until(condition, timeout=PATIENCE):
    """Wait until a condition is true; fail after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.01)


def lines(folder):
    """The number of finished samples in the journals of a folder."""
    return sum(path.read_bytes().count(b'"index"') for path in Path(folder).glob("journal-*.jsonl"))


def kill_after(program, folder, samples):
    """SIGKILL a program after `samples` more samples and a random time; whether it still ran."""
    before = lines(folder)
    end = time.monotonic() + PATIENCE
    while program.process.is_alive() and lines(folder) < before + samples:
        assert time.monotonic() < end
        time.sleep(0.002)
    time.sleep(random.uniform(0, 0.03))
    program.process.kill()
    return program.wait() < 0


def workers(agent):
    """Find the worker processes that a torchrun agent has started: {rank: process id}."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            words = (process / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        rank = [word for word in words if word.startswith(b"RANK=")]
        if parent == agent and rank:
            found[int(rank[0][5:])] = int(process.name)
    return found
