"""Prepare folders with finished or failed runs and comparisons; get the outcome of a command."""

import errno
import json
from dataclasses import dataclass
from functools import cache

import ggf_cli
from command import ggf
from faults import Faults
from ggf_cli.comparison.lineup import Cell
from ggf_cli.comparison.plan import ComparisonPlan
from ggf_cli.comparison.report import write_outputs
from ggf_cli.comparison.runner import Comparison
from ggf_cli.errors import GGFError

MODEL = ["sample", "--model", "mixture", "--solver", "em", "--batch-size", "2"]
RUN = [*MODEL, "--n", "3", "--steps", "2"]


@dataclass(frozen=True)
class Outcome:
    """The exit code of a command, 1 for a traceback, and its messages."""

    code: int
    said: str


def outcome_of(*words):
    """Run a command line of `ggf`; return its outcome."""
    done = ggf(*words)
    if not isinstance(done.exception, SystemExit | None):
        return Outcome(1, repr(done.exception))
    return Outcome(done.exit_code, done.stderr)


@cache
def _mixture():
    return ggf_cli.load_model("mixture", device="cpu")


def compare(folder):
    """Make a small comparison without metrics in a folder; return its outcome."""
    cells = [Cell(id=f"em-{k}", series="em", solver="em", given={"steps": k}) for k in (1, 2)]
    plan = ComparisonPlan(
        model=_mixture(),
        cells=cells,
        evaluators=[],
        n=2,
        repeats=2,
        seed=0,
        batch_size=2,
        folder=folder,
        command="ggf compare",
        model_argument="mixture",
    )
    try:
        comparison = Comparison(plan)
        write_outputs(comparison.run(), comparison.pictures(), folder)
    except GGFError as error:
        return Outcome(error.exit_code, f"error: {error.message}")
    # A user would see a traceback.
    except Exception as error:  # noqa: BLE001
        return Outcome(1, repr(error))
    return Outcome(0, "")


def unended(format):
    """Prepare a folder whose run failed at its third sample: all writes from there on failed."""

    def prepare(folder):
        file = "samples/.000002.png" if format == "png" else ".parts/.000002.npy"
        at = ("write", f"{file}.part")
        with Faults(folder / "run", at=at, error=errno.ENOSPC, again=True):
            done = outcome_of(*RUN, "--format", format, "--out", folder / "run")
        assert done.code == 5
        assert "no space left" in done.said
        assert len(list(folder.glob("run/journal-0.jsonl"))) == 1

    return prepare


def ended(words):
    """Prepare a folder with a finished run of this command line."""

    def prepare(folder):
        assert outcome_of(*words, "--out", folder / "run").code == 0

    return prepare


def run_content(folder):
    """Return the results in run.json, and the content of the files that it lists."""
    log = json.loads((folder / "run/run.json").read_text())
    keys = ("status", "seed", "indices", "samples", "files", "nfe", "steps")
    listed = [(folder / "run" / file["path"]).read_bytes() for file in log["files"]]
    return {key: log[key] for key in keys}, listed


def comparison_content(folder):
    """Return the status and cells in compare.json, and the names of the files beside it."""
    document = json.loads((folder / "run/compare.json").read_text())
    cells = [(cell["id"], cell["nfe"], cell["status"], cell["runs"]) for cell in document["cells"]]
    return document["status"], cells, sorted(path.name for path in (folder / "run").rglob("[!.]*"))


def comparing(folder):
    """Make a small comparison in the `run` folder of a folder; return its outcome."""
    return compare(folder / "run")
