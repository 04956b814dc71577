"""Measure how long `ggf download church` takes to give up, for each kind of failing server.

    python benchmarks/download_failures.py

Each case is a process of its own, with a hub on 127.0.0.1 (tests/support/hub_server.py), an empty
cache and no token. Prints a Markdown table: case, seconds of the process, message.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from ggf_cli.checkpoints.documents import ModelEntry
from ggf_cli.checkpoints.manifest import find_model
from hub_server import Hub

CONFIG, SCHEDULER = "config.json", "scheduler_config.json"

# The case -> what is done to the hub.
CASES: dict[str, Callable[[Hub], None]] = {
    "connection refused": lambda hub: hub.stop(),
    "HTTP 500, look-up": lambda hub: hub.fail(500, times=99),
    "HTTP 503, transfer": lambda hub: hub.fail(503, method="GET", times=99),
    "connection closed, look-up": lambda hub: hub.broken.update(HEAD="closed"),
    "connection closed, transfer": lambda hub: hub.broken.update(GET="closed"),
    "connection reset, transfer": lambda hub: hub.cut(after=0, times=99, reset=True),
    "HTTP 429, Retry-After: 300": lambda hub: hub.fail(429, headers={"Retry-After": "300"}),
    "HTTP 401": lambda hub: hub.fail(401, times=99),
    "HTTP 403": lambda hub: hub.fail(403, times=99),
    "HTTP 404": lambda hub: hub.fail(404, times=99),
    "redirect to itself, look-up": lambda hub: hub.broken.update(HEAD="loop"),
    "redirect to itself, transfer": lambda hub: hub.broken.update(GET="loop"),
    "web page instead of the file": lambda hub: hub.broken.update(HEAD="page"),
    "silent, look-up": lambda hub: hub.broken.update(HEAD="silent"),
    "silent, transfer": lambda hub: hub.broken.update(GET="silent"),
    "silent in the middle of the content": lambda hub: hub.broken.update(content="silent"),
    "20 bytes a second": lambda hub: hub.trickles.add("content"),
}


@contextmanager
def silent_server(backlog: int) -> Iterator[int]:
    """A port that accepts connections (backlog 8), or none (0), and never answers."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(backlog)
        for _ in range(8 if backlog == 0 else 0):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[1]


def measure(case: str, endpoint: str) -> None:
    """Run the command, and print its row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "HF_HOME": f"{folder}/hf",
            "GGF_HOME": f"{folder}/ggf",
            "HF_ENDPOINT": endpoint,
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
            "NO_PROXY": "*",
        }
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "ggf_cli", "download", "church"],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
        )
        seconds = time.perf_counter() - start
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 3, done.stderr
    assert len(errors) == 1, done.stderr
    assert len(done.stderr.splitlines()) == 2, done.stderr
    message = re.sub("(error: )?cannot download .* from [^:]+: ", "", errors[0])
    print(f"| {case} | {seconds:.1f} | {message.removeprefix('error: ')} |", flush=True)


def main() -> None:
    """Print the table."""
    entry = find_model("church")
    assert isinstance(entry, ModelEntry)
    print("| server | seconds | message |\n|---|---|---|")
    measure("unknown name", "https://no-such-host.invalid")
    with silent_server(0) as port:
        measure("accepts no connection", f"https://127.0.0.1:{port}")
    with silent_server(8) as port:
        measure("silent in the TLS handshake", f"https://127.0.0.1:{port}")
    with Hub() as hub:
        measure("no TLS", hub.url.replace("http:", "https:"))
    for case, prepare in CASES.items():
        with Hub() as hub:
            # The commit is that of the registry, the content is not.
            files = {CONFIG: b"{}", SCHEDULER: b"{}", entry.file: bytes(200_000)}
            hub.publish(entry.place, files, commit=entry.revision)
            prepare(hub)
            measure(case, hub.url)


if __name__ == "__main__":
    main()
