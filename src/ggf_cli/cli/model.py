"""The model as the commands use it: loaded, in its precision; and compiled before it is used, if that is wanted."""

from __future__ import annotations

from ggf_cli import compilation
from ggf_cli.checkpoints.load import load_model
from ggf_cli.cli import console
from ggf_cli.devices import full_precision
from ggf_cli.memory import keep_freed
from ggf_cli.precision import in_precision
from ggf_cli.score import ScoreModel


def prepare(name: str, *, device: str, precision: str, tolerance: float, quiet: bool) -> ScoreModel:
    """Load a model for the options --device and --precision, and for solvers that look no closer than a relative tolerance."""
    full_precision()
    keep_freed()
    return in_precision(load_model(name, device=device, quiet=quiet), precision, tolerance)


def warm_up(model: ScoreModel, batch_size: int, *, quiet: bool) -> None:
    """Compile what a run with so many rows needs, and say so."""
    if not model.compiled:
        return
    with console.busy("compiling the network", quiet=quiet):
        compilation.warm_up(model, batch_size)
