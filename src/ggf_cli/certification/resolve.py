"""Turn the name of a sampler into the sampler: a solver, a scheduler, or a function in a file."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from ggf_cli.certification.samplers import Sampler, from_function, from_solver
from ggf_cli.comparison.lineup import parse_contender
from ggf_cli.errors import UsageError
from ggf_cli.solvers import make_solver

DIFFUSERS = "diffusers:"


def resolve(name: str) -> Sampler:
    """Return the sampler called `name`.

    Args:
        name: "adaptive", "em:steps=200", "diffusers:DDIMScheduler", "FILE.py:FUNCTION". Only the
            last runs code of a file: the file that the user named.

    Raises:
        UsageError: There is no such sampler, or the file does not load.
    """
    if name.startswith(DIFFUSERS):
        # Imported here, because diffusers is optional.
        from ggf_cli.certification.schedulers import from_scheduler

        return from_scheduler(name.removeprefix(DIFFUSERS))
    path, colon, attribute = name.rpartition(":")
    if colon and path.endswith(".py"):
        return from_function(_load(Path(path), attribute), name=name)
    contender = parse_contender(name)
    return from_solver(make_solver(contender.solver, contender.given), name=name)


def _load(path: Path, attribute: str) -> Callable[..., Tensor]:
    """Run the Python file and return one of its functions."""
    if not path.is_file():
        raise UsageError(f"{path} is not a file", hint="like certify my_sampler.py:sample")
    spec = importlib.util.spec_from_file_location("ggf_user_sampler", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    # The file of the user may raise anything.
    except Exception as error:
        raise UsageError(f"{path} does not load: {type(error).__name__}: {error}") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise UsageError(f"{path} has no function {attribute!r}")
    found: Callable[..., Tensor] = function
    return found
