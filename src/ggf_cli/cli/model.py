"""Load a model for a command, set its precision, and compile it."""

from __future__ import annotations

import warnings

from ggf_cli.checkpoints.load import load_model
from ggf_cli.cli import console
from ggf_cli.errors import AssumptionWarning
from ggf_cli.per_sample import PerSample
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
    conditions: PerSample | None = None,
    guidance: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
) -> ScoreModel:
    """Load a model for the options --device, --precision and --config.

    Args:
        name: The value of --model.
        device: The value of --device.
        precision: The value of --precision.
        tolerance: The smallest relative tolerance of the solvers, for `auto` precision.
        quiet: Do not print the assumptions that were made about the checkpoint.
        config: The value of --config.
        conditions: The conditions of a conditional model.
        guidance: The value of --guidance.
        guidance_interval: The value of --guidance-interval.
    """
    full_precision()
    keep_freed()
    with warnings.catch_warnings():
        # Printed below, in the form of the command line.
        warnings.simplefilter("ignore", AssumptionWarning)
        model = load_model(name, device=device, quiet=quiet, config=config)
    for sentence in () if quiet else (model.provenance or {}).get("assumptions", ()):
        console.warn(sentence)
    model = model.with_conditions(
        conditions, guidance=guidance, guidance_interval=guidance_interval
    )
    return in_precision(model, precision, tolerance)


def warm_up(model: ScoreModel, batch_size: int, *, quiet: bool) -> None:
    """Compile the network for a batch size, with a status line; nothing if it is not compiled."""
    if not model.compiled:
        return
    with console.busy("compiling the network", quiet=quiet):
        compilation.warm_up(model, batch_size)
