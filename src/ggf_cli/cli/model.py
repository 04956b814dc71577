"""The model as the commands use it: loaded, in its precision, compiled if that is wanted."""

from __future__ import annotations

from ggf_cli import compilation
from ggf_cli.checkpoints.load import load_model
from ggf_cli.cli import console
from ggf_cli.devices import full_precision
from ggf_cli.precision import in_precision
from ggf_cli.score import ScoreModel


def prepare(name: str, *, device: str, precision: str, compile: bool, quiet: bool) -> ScoreModel:
    """Load a model for the options --device, --precision and --compile."""
    full_precision()
    model = in_precision(load_model(name, device=device, quiet=quiet), precision)
    return compilation.compiled(model) if compile else model


def warm_up(model: ScoreModel, batch_size: int, *, quiet: bool) -> None:
    """Compile what a run with so many rows needs, and say so."""
    if not model.compiled:
        return
    with console.busy("compiling the network", quiet=quiet):
        compilation.warm_up(model, batch_size)
