"""Run `ggf` in the test process; read and validate the documents that it writes."""

import json
from importlib.resources import files

import jsonschema
from typer.testing import CliRunner

from ggf_cli.cli.app import app

RUN_SCHEMA = json.loads((files("ggf_cli") / "schemas/run-1.json").read_text())
COMPARE_SCHEMA = json.loads((files("ggf_cli") / "schemas/compare-2.json").read_text())


def ggf(*args):
    """Run a command line; return typer's result: `exit_code`, `stdout`, `stderr`, `output`."""
    return CliRunner().invoke(app, [str(argument) for argument in args])


def read_log(folder):
    """Read and validate the run.json of a folder."""
    log = json.loads((folder / "run.json").read_text())
    jsonschema.validate(log, RUN_SCHEMA)
    return log


def read_comparison(folder):
    """Read and validate the compare.json of a folder."""
    document = json.loads((folder / "compare.json").read_text())
    jsonschema.validate(document, COMPARE_SCHEMA)
    return document
