"""Call the functions of `ggf_cli.checkpoints.fetch` in a new process, with a hub on 127.0.0.1."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from patience import PATIENCE

REPO, FILE = "some/model", "weights/model.safetensors"


DRIVER = """
import json, sys, time
# huggingface_hub waits for seconds between its attempts
sleep = time.sleep
time.sleep = lambda seconds: sleep(seconds / 50)
from ggf_cli.checkpoints import fetch
from ggf_cli.errors import CheckpointError
function, arguments, options, before = json.loads(sys.argv[1])
exec(before)
try:
    answer = {"path": getattr(fetch, function)(*arguments, **options)}
except CheckpointError as error:
    answer = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
assert "torch" not in sys.modules
sys.stdout.write(json.dumps({**answer, "modules": [*sys.modules]}, default=str))
"""


@dataclass(kw_only=True)
class Answer:
    """The result of a call: the path, or the error; the imported modules, and stderr."""

    path: Path | None = None
    message: str | None = None
    hint: str | None = None
    exit_code: int | None = None
    modules: list
    stderr: str


class Client:
    """Call functions of `ggf_cli.checkpoints.fetch` in new processes.

    Args:
        folder: Holds the caches of huggingface_hub and of `ggf`.
        url: The hub.
    """

    def __init__(self, folder, url):
        self.folder, self.cache, self.data = folder, folder / "hf/hub", folder / "ggf"
        keep = {
            key: os.environ[key]
            for key in ("PATH", "PYTHONPATH", "LANG", "SYSTEMROOT")
            if key in os.environ
        }
        self.environment = {
            **keep,
            "HOME": str(folder),
            "HF_HOME": str(folder / "hf"),
            "GGF_HOME": str(self.data),
            "HF_ENDPOINT": url,
            "NO_PROXY": "*",
            "PYTHONWARNINGS": "error::ResourceWarning",
        }

    def __call__(self, function="fetch_file", repo=REPO, file=FILE, *, before="", **options):
        return self.finish(self.start(function, repo, file, before=before, **options))

    def start(
        self,
        function="fetch_file",
        repo=REPO,
        file=FILE,
        *,
        before="",
        shell=(),
        stderr=subprocess.PIPE,
        **options,
    ):
        call = json.dumps([function, [repo, file], options, before])
        return subprocess.Popen(
            [*shell, sys.executable, "-c", DRIVER, call],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    @staticmethod
    def finish(process):
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        answer = Answer(**json.loads(out), stderr=err or "")
        answer.path = Path(answer.path) if answer.path else None
        return answer

    def fails(self, *args, **options):
        """Make a call that must end with a `CheckpointError`; return the answer."""
        answer = self(*args, **options)
        assert answer.path is None
        assert answer.exit_code == 3
        assert answer.hint
        assert "\n" not in answer.message + answer.hint
        return answer

    @property
    def known(self):
        """The content of known_hashes.json."""
        return json.loads((self.data / "known_hashes.json").read_text())
