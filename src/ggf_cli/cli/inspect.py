"""`ggf inspect`: print what a checkpoint is, what is assumed about it, and whether it works.

Exit codes: 0 if the model can be loaded and its score is finite; 3 if it cannot be loaded; 4 if the
score is not finite.
"""

from __future__ import annotations

import json as json_module
import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import to_builtins
from rich.table import Table
from rich.text import Text

from ggf_cli.checkpoints.stated_sde import combine
from ggf_cli.cli import console, options
from ggf_cli.errors import GGFError, SolveError
from ggf_cli.registry import SDE_TITLES
from ggf_cli.text import plain

if TYPE_CHECKING:
    from ggf_cli.checkpoints.inspection import Inspection

# A longer list of a configuration is not printed; --json has it.
LONGEST_LIST = 16


def inspect(
    model: Annotated[
        str,
        typer.Argument(
            metavar="NAME|PATH|hf:REPO|FILE.py:OBJECT",
            help="A name from `ggf list-models`, a checkpoint, or your own code, which is run.",
            show_default=False,
        ),
    ],
    config: options.Config = None,
    sde: options.StateSDE = None,
    size: options.ImageSize = None,
    device: options.Device = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a checkpoint is, states and lacks; evaluate its score.

    ggf inspect ./my-ddpm

    ggf inspect checkpoint_8.pth --config sde=vp

    ggf inspect hf:google/ddpm-cifar10-32 --json

    A model on the hub is downloaded. Without --config, the hint says what a file does not state.
    """
    from ggf_cli.checkpoints.inspection import inspect_model, unreadable
    from ggf_cli.runtime.devices import full_precision

    full_precision()
    try:
        found = inspect_model(
            model,
            device=device,
            quiet=quiet or json,
            config=combine(config, sde=sde, size=size),
        )
    except GGFError as error:
        if json:
            console.result_json(_as_typed(to_builtins(unreadable(model, error))))
        raise
    if json:
        console.result_json(_as_typed(to_builtins(found)))
    else:
        console.show(_table(found), columns=console.width())
    if found.score.finite is False:
        raise SolveError(
            f"the score of {found.name} is not finite",
            hint="check --config, and whether the file is complete",
        )


def _as_typed(document: dict[str, Any]) -> dict[str, Any]:
    """Spell options in the sentences of a document as flags."""
    for key in ("error", "hint"):
        if document.get(key):
            document[key] = console.with_flags(document[key])
    for key in ("assumptions", "missing"):
        if key in document:
            document[key] = [console.with_flags(sentence) for sentence in document[key]]
    return document


def _table(found: Inspection) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for key, text in _rows(found):
        table.add_row(key, Text(plain(text, lines=True)))
    return table


def _rows(found: Inspection) -> Iterator[tuple[str, str]]:
    network = found.network
    count = "unknown" if network.parameters is None else f"{network.parameters:,}"
    yield "model", found.name
    yield "source", found.source
    yield "format", found.format
    yield "network", f"{network.name or 'code of your own'}, {count} parameters"
    if network.config:
        yield "sizes", _settings(network.config)
    if found.parametrization:
        more = _settings(found.parametrization_config)
        yield "output", found.parametrization + (f" ({more})" if more else "")
    sde = {key: value for key, value in found.sde.items() if key not in ("name", "data_range")}
    stated = f"\nas you state it: {found.sde_stated}" if found.sde_stated else ""
    title = SDE_TITLES.get(found.sde["name"], found.sde["name"])
    yield "SDE", f"{title}: {_settings(sde)}{stated}"
    yield (
        "noise",
        "\n".join(f"t {n.t:g}: alpha {n.alpha:.4g}, sigma {n.sigma:.4g}" for n in found.noise),
    )
    yield "shape", "×".join(map(str, found.shape))
    low, high = found.data_range or (0, 0)
    yield "data range", f"{low:g} to {high:g}" if found.data_range else "none: not images"
    yield "labels", _labels(found)
    yield "licence", found.license or "not stated"
    yield "sha256", found.sha256 or "none"
    yield "assumed", "\n".join(map(console.with_flags, found.assumptions)) or "nothing"
    yield "missing", "\n".join(map(console.with_flags, found.missing)) or "nothing"
    yield "score", _score(found)


def _labels(found: Inspection) -> str:
    if not found.conditional:
        return "none"
    return f"{found.classes} classes" if found.classes else "conditions of your own"


def _score(found: Inspection) -> str:
    score = found.score
    if score.problem:
        return f"not evaluated: {score.problem}"
    if not score.finite:
        return "not finite"
    lines = [f"finite, {score.seconds:.3g} s an evaluation on {score.device}"]
    lines += [
        f"of noise at t {n.t:g}: RMS {n.score_rms:.3g}, times sigma {n.noise_rms:.3g}"
        for n in found.noise
    ]
    return "\n".join(lines)


def _settings(settings: Mapping[str, Any]) -> str:
    """Settings as short text: "channels [32, 64], blocks 2"."""
    return ", ".join(f"{key} {_value(value)}" for key, value in settings.items())


def _value(value: Any) -> str:
    if isinstance(value, list) and len(value) > LONGEST_LIST:
        return f"[{len(value)} values]"
    if isinstance(value, str):
        return textwrap.shorten(value, 60)
    return json_module.dumps(value)
