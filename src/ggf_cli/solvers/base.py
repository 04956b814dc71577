"""The base class of solvers: options, and two functions on rows.

    start(x, index, sde)             -> rows      fresh rows at t = T
    step(rows, score, noise, sde)    -> rows      one network evaluation of every row

A solver solves every SDE: it uses alpha, sigma, drift, diffusion and their inverse only, and no
property of a certain SDE. T need not be 1.

A *row* is the state of one sample between t = T and t_eps, with its own x, t, step size, counters
and noise stream. Rows share no quantity, so a sample does not depend on the other rows, and the
engine may add and remove rows at any time. A solver has no loop, and never drops or reorders rows.

A step evaluates each row once, at the point that this row needs: at the start of an attempt, inside
it, or at t_eps for the denoising. A method with several stages keeps the stage in its rows. So
every network call has a full batch, and every evaluation is used.

To add a solver: one file with a `Solver`, one line in the table of `ggf_cli.solvers`.
"""

from __future__ import annotations

import abc
import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Generic, Literal, Self

import torch
from torch import Tensor
from typing_extensions import TypeVar

from ggf_cli.errors import OptionError, UsageError
from ggf_cli.guidance import Guidance
from ggf_cli.runtime.devices import time_dtype
from ggf_cli.scalars import as_bool, as_float, as_int, shown
from ggf_cli.score import ScoreFunction
from ggf_cli.sde import SDE, expand_as_batch

NoiseFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The state of B running samples. Solvers add further tensors, (B, ...).

    Attributes:
        index: Sample index, which selects the noise stream, (B,) int64.
        draws: Noise blocks used so far; block 0 is the prior draw, (B,) int64.
        x: State, (B, *).
        t: Time, (B,), float64 (float32 on mps).
        accepted: Accepted steps, (B,) int64.
        rejected: Rejected attempts, (B,) int64.
        done: True when x is the final, denoised sample, (B,) bool.
    """

    index: Tensor
    draws: Tensor
    x: Tensor
    t: Tensor
    accepted: Tensor
    rejected: Tensor
    done: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def replace(self, **changes: Any) -> Self:
        """The same rows with some tensors replaced."""
        return dataclasses.replace(self, **changes)

    def take(self, slots: Tensor) -> Self:
        """The rows at `slots`, (k,) int64, in that order."""
        return self.replace(**{f.name: getattr(self, f.name)[slots] for f in fields(self)})

    def to(self, device: torch.device | str) -> Self:
        """The same rows on another device."""
        return self.replace(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def put(self, slots: Tensor, fresh: Self) -> Self:
        """These rows with those at `slots`, (k,) int64, replaced by the k rows `fresh`."""
        return self.replace(
            **{
                f.name: getattr(self, f.name).index_copy(0, slots, getattr(fresh, f.name))
                for f in fields(self)
            }
        )


# The rows of a solver; `Solver` alone is a solver with any rows.
RowsT = TypeVar("RowsT", bound=Rows, default=Any)


def fresh_rows(x: Tensor, index: Tensor, sde: SDE) -> dict[str, Tensor]:
    """The fields of `Rows` for new rows: prior draws x (B, *) of the samples index (B,)."""
    zeros = torch.zeros_like(index)
    return {
        "index": index,
        "draws": torch.ones_like(index),
        "x": x,
        "t": torch.full(index.shape, sde.T, dtype=time_dtype(x.device), device=x.device),
        "accepted": zeros,
        "rejected": zeros,
        "done": torch.zeros_like(index, dtype=torch.bool),
    }


def option(
    default: Any,
    help: str,
    *,
    above: float = -math.inf,
    low: float = -math.inf,
    high: float = math.inf,
    choices: tuple[str, ...] = (),
    whole: bool = False,
    pattern: str = "",
    numbers: bool = False,
    share: bool = False,
    advice: str = "",
) -> Any:
    """Declare a solver option: its default, one line of help, and its allowed values.

    Args:
        default: Default value; None if the SDE, the model or another option decides.
        help: One line of help.
        above: Exclusive lower bound.
        low: Inclusive lower bound.
        high: Inclusive upper bound.
        choices: Allowed words.
        whole: Only whole numbers; implied by a default that is an int.
        pattern: Regular expression of a text.
        numbers: The value is a sequence of numbers, kept as a tuple of floats; a text with commas
            is accepted too.
        share: The value is a share, which may be written as a percentage.
        advice: The hint where a value is refused.
    """
    whole = whole or (isinstance(default, int) and not isinstance(default, bool))
    limits = {"choices": choices, "pattern": pattern, "whole": whole, "numbers": numbers}
    limits |= {"above": above, "low": low, "high": high, "share": share, "advice": advice}
    return field(default=default, metadata={"help": help, **limits})


@dataclass(frozen=True, kw_only=True)
class Solver(abc.ABC, Generic[RowsT]):
    """A solver: options as frozen fields, properties as class attributes, and `start` and `step`.

    Options accept numbers of the types in `ggf_cli.scalars` and are kept as Python numbers. An int
    option refuses 3.0.

    Class attributes:
        name: The name of the solver in tables, logs and on the command line.
        kind: "sde" (stochastic) or "ode" (probability flow).
        adaptive: Whether the step size follows the error.
        evaluations: Network evaluations of a step, as text: "1", "2".
        order: Order of convergence in the step size; the strong order, on a given Brownian path, if
            stochastic. None if the noise is not that of one path.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["sde", "ode"]]
    adaptive: ClassVar[bool]
    evaluations: ClassVar[str]
    order: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        for f in fields(self):
            value = _as_option(self.name, f.name, getattr(self, f.name), f.metadata, f.default)
            object.__setattr__(self, f.name, value)

    @abc.abstractmethod
    def start(self, x: Tensor, index: Tensor, sde: SDE) -> RowsT:
        """Make new rows at t = T from prior draws x (B, *) of the samples index (B,)."""

    @abc.abstractmethod
    def step(self, rows: RowsT, score: ScoreFunction, noise: NoiseFunction, sde: SDE) -> RowsT:
        """Evaluate every row once, at the point it needs, and advance it as far as that allows.

        Args:
            rows: The rows, each at its own t and stage.
            score: x (B, *), t (B,) -> (B, *); call it once.
            noise: index (B,), draw (B,) -> (B, *): block `draw` of each sample's noise stream.
            sde: The forward SDE.

        Returns:
            The rows, in the same order, `done` where x is final.
        """

    @property
    def tolerance(self) -> float:
        """The relative tolerance of the step size control; infinity for fixed steps."""
        return getattr(self, "eps_rel", math.inf)

    def expected_nfe(self) -> int | None:
        """Evaluations of a sample, the denoising included; None if not known beforehand."""
        return None

    def advised(self, recommended: Mapping[str, Any]) -> Self:
        """Return the solver with options that are None replaced by recommended ones."""
        open_ = {f.name for f in fields(self) if getattr(self, f.name) is None}
        return replace(self, **{name: recommended[name] for name in open_ & recommended.keys()})

    def resolved(self, sde: SDE) -> Self:
        """Return the solver with every option set that the SDE decides."""
        return self

    def remark(self, sde: SDE) -> str | None:
        """What a user should know of these options on an SDE; None: nothing."""
        return None

    def options(self) -> dict[str, Any]:
        """The options as JSON data; a tuple is a list."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def expected_nfe(solver: Solver, guidance: Guidance | None) -> tuple[int | None, int | None]:
    """Evaluations of a sample with guidance: their number, and the largest possible number.

    Each is None if it is not known beforehand. A solver counts a guided evaluation once.
    """
    known = solver.expected_nfe()
    if known is None or guidance is None:
        return known, known
    return (2 * known if guidance.interval is None else None), 2 * known


def reverse_increment(
    sde: SDE, x: Tensor, t: Tensor, score: Tensor, h: Tensor, z: Tensor
) -> Tensor:
    """One Euler–Maruyama increment of the reverse SDE, from t to t - h.

        K = -h [f(x, t) - g(t)^2 score] + g(t) sqrt(h) z

    Args:
        sde: The forward SDE.
        x: State, (B, *).
        t: Time, (B,).
        score: score(x, t), (B, *).
        h: Step size, (B,), >= 0.
        z: Standard normal noise, (B, *).
    """
    noise_scale = sde.diffusion(t) * torch.sqrt(h)
    drift = sde.reverse_drift(x, t, score)
    return expand_as_batch(noise_scale, x) * z - expand_as_batch(h, x) * drift


def forward_kernel(sde: SDE, t: Tensor, t_next: Tensor) -> tuple[Tensor, Tensor]:
    """The Gaussian that carries x(t_next) forward to x(t): x(t) ~ N(a x(t_next), v I).

    Args:
        sde: The forward SDE.
        t: Time, (B,).
        t_next: The cleaner time, (B,), <= t.

    Returns:
        The scale a, (B,), in (0, 1], and the variance v, (B,), >= 0.
    """
    a = sde.alpha(t) / sde.alpha(t_next)
    # sigma_t^2 - a^2 sigma_s^2 without cancellation.
    log_ratio = 2 * (sde.half_log_snr(t) - sde.half_log_snr(t_next))
    return a, sde.sigma(t).square() * -torch.expm1(log_ratio)


def where_rows(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Select `yes` for each row where the condition (B,) holds, else `no`; both (B, *)."""
    return torch.where(condition.reshape(-1, *(1,) * (yes.dim() - 1)), yes, no)


def noise_where(needed: Tensor, rows: Rows, noise: NoiseFunction) -> Tensor:
    """Draw the next noise, (B, *), of the rows where `needed` (B,) holds; others are undefined."""
    # On other devices, selecting rows waits for the device, which costs more than the noise.
    if rows.x.device.type != "cpu" or needed.all():
        return noise(rows.index, rows.draws)
    z = torch.zeros_like(rows.x)
    if needed.any():
        z[needed] = noise(rows.index[needed], rows.draws[needed])
    return z


def _as_option(solver: str, name: str, value: Any, limits: Mapping[str, Any], like: Any) -> Any:
    """Convert an option's value to the Python type of its default `like`.

    Raises:
        OptionError: The value is of another type, or outside the limits.
    """
    if value is None and like is None:
        return None
    label = f"{name} of solver '{solver}'"
    try:
        if limits["choices"] or limits["pattern"]:
            return _as_text(label, value, limits["choices"], limits["pattern"], like)
        if limits["numbers"]:
            return _as_numbers(label, value)
        if isinstance(like, bool):
            return as_bool(value, label)
        convert = as_int if limits["whole"] else as_float
        return convert(value, label, above=limits["above"], low=limits["low"], high=limits["high"])
    except UsageError as error:
        hint = error.hint or limits["advice"] or None
        raise OptionError(error.message, option=name, hint=hint) from error.__cause__


def _as_numbers(name: str, value: Any) -> tuple[float, ...]:
    """Convert a sequence of numbers, or a text such as "1.0,0.5", to floats."""
    if isinstance(value, str):
        try:
            return tuple(map(float, value.split(",")))
        except ValueError as error:
            wanted = "it must be numbers with commas"
            raise UsageError(f"{name} is {shown(value)}, {wanted}") from error
    if not isinstance(value, Iterable):
        raise UsageError(f"{name} is {shown(value)}, it must be a sequence of numbers")
    return tuple(as_float(number, name) for number in value)


def _as_text(name: str, value: Any, choices: tuple[str, ...], pattern: str, like: Any) -> str:
    if choices:
        wanted, good = f"one of {', '.join(choices)}", isinstance(value, str) and value in choices
    else:
        wanted = f"text like {like}" if like else f"text of the form {pattern}"
        good = isinstance(value, str) and re.fullmatch(pattern, value) is not None
    if not good:
        raise UsageError(f"{name} is {shown(value)}, it must be {wanted}")
    return str(value)
