"""The real program in processes of their own, started quickly: forked from a server that has imported it."""

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
# Python 3.11's server does not take over sys.path.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
).rstrip(os.pathsep)

# Six samples at a time that take different numbers of steps: they end in another order than they start.
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
    """SIGKILL this process before its change number 0, 1, ... of the files in a folder; a line of a journal is half written then."""
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
        # Of rmtree.
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
    """`ggf` with some words, running."""

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
        """Its exit code, negative for a signal."""
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
    """The processes of a job as torchrun would start them, on a port of their own; one may get more words."""
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
    """What a run left behind, without what depends on the day: {file: sha256}, and the accounts of `run.json`."""
    found = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(folder).rglob("*")
        if path.is_file() and path.name != "run.json"
    }
    log = json.loads((Path(folder) / "run.json").read_text())
    same = (
        "status",
        "command",
        "model",
        "solver",
        "seed",
        "indices",
        "batch_size",
        "nfe",
        "steps",
        "samples",
        "files",
    )
    return found, {key: log[key] for key in same}


def until(condition, timeout=PATIENCE):
    """Wait for something to happen."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def lines(folder):
    """Finished samples in the journals of a folder."""
    return sum(path.read_bytes().count(b'"index"') for path in Path(folder).glob("journal-*.jsonl"))


def kill_after(program, folder, samples):
    """SIGKILL when so many more samples have finished, and a random moment later; whether it came in time."""
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
