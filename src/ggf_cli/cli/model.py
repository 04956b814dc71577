"""The model as the commands use it: loaded, in its precision; and compiled before it is used, if that is wanted."""

from __future__ import annotations

import warnings

from ggf_cli.checkpoints.load import load_model
from ggf_cli.cli import console
from ggf_cli.errors import AssumptionWarning
from ggf_cli.runtime import compilation
from ggf_cli.runtime.devices import full_precision
from ggf_cli.runtime.memory import keep_freed
from ggf_cli.runtime.precision import in_precision
from ggf_cli.score import ScoreModel


def prepare(
    name: str,
    *,
    device: str,
    precision: str,
    tolerance: float,
    quiet: bool,
    config: str | None = None,
) -> ScoreModel:
    """Load a model for the options --device, --precision and --config, and for solvers that look no closer than a relative tolerance.

    Unless `quiet`, what was assumed of the checkpoint is told on stderr.
    """
    full_precision()
    keep_freed()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)  # told below, as the command line tells
        model = load_model(name, device=device, quiet=quiet, config=config)
    for sentence in () if quiet else (model.provenance or {}).get("assumptions", ()):
        console.warn(sentence)
    return in_precision(model, precision, tolerance)


def warm_up(model: ScoreModel, batch_size: int, *, quiet: bool) -> None:
    """Compile what a run with so many rows needs, and say so."""
    if not model.compiled:
        return
    with console.busy("compiling the network", quiet=quiet):
        compilation.warm_up(model, batch_size)
