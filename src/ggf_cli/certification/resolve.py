"""Turn the name of a sampler into the sampler: of this package, of others, or a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from ggf_cli.certification.samplers import Sampler, from_function, from_solver
from ggf_cli.checkpoints.user_code import UserCode, load_object, parse_user_code
from ggf_cli.comparison.lineup import parse_contender
from ggf_cli.errors import UsageError
from ggf_cli.solvers import make_solver

DIFFUSERS, K_DIFFUSION = "diffusers:", "k-diffusion:"


def resolve(name: str) -> Sampler:
    """Return the sampler called `name`.

    Args:
        name: "adaptive", "em:steps=200", "diffusers:DDIMScheduler", "k-diffusion:sample_heun",
            "FILE.py:FUNCTION". Only the last runs code of a file: the file that the user named.

    Raises:
        UsageError: There is no such sampler, or the file does not load.
    """
    if name.startswith(DIFFUSERS):
        # Imported here, because diffusers is optional.
        from ggf_cli.certification.schedulers import from_scheduler

        return from_scheduler(name.removeprefix(DIFFUSERS))
    if name.startswith(K_DIFFUSION):
        from ggf_cli.certification.k_diffusion import from_k_diffusion

        return from_k_diffusion(name.removeprefix(K_DIFFUSION))
    if (code := parse_user_code(name)) and code.is_file:
        if not Path(code.place).is_file():
            raise UsageError(f"{code.place} is not a file", hint="like my_sampler.py:sample")
        return from_function(_load(code), name=name)
    contender = parse_contender(name)
    return from_solver(make_solver(contender.solver, contender.given), name=name)


def _load(code: UserCode) -> Callable[..., Tensor]:
    """Run the user's file and return the function."""
    function = load_object(code)
    if not callable(function):
        raise UsageError(f"{code.text} is a {type(function).__name__}, it must be a function")
    found: Callable[..., Tensor] = function
    return found
