"""Exponential multistep methods: one evaluation a step, and a table of coefficients.

With the data prediction D = E[x(0) | x(t)] (Tweedie) in place of the score, D is the only nonlinear
term of a reverse SDE or its probability flow. The linear part and the noise are solved exactly, and
D is replaced by a polynomial through its last values, so step k is

    x <- a_k x + b_k0 D_k + b_k1 D_{k-1} + ... + c_k z

The coefficients depend on the time grid only, so a method is a table with one line a step. It is
computed once, in float64 on the host; each row uses the line of its own step. The first lines are
of lower order, because there are fewer past values.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from ggf_cli.sde import SDE, expand_as_batch
from ggf_cli.solvers.base import Rows, fresh_rows
from ggf_cli.solvers.fixed import OneEvaluationStep
from ggf_cli.solvers.schedule import time_grid


@dataclass(frozen=True, kw_only=True)
class MultistepRows(Rows):
    """The rows of a multistep method.

    Attributes:
        data: The data predictions of the last `memory` steps, newest first, (B, memory, *). Zero if
            there was no such step; then its coefficient is zero too.
    """

    data: Tensor


@dataclass(frozen=True, kw_only=True)
class Multistep(OneEvaluationStep[MultistepRows]):
    """A solver that is a table of coefficients, which subclasses implement.

    Class attributes:
        memory: Number of past data predictions that a step needs.
    """

    memory: ClassVar[int] = 1

    def start(self, x: Tensor, index: Tensor, sde: SDE) -> MultistepRows:
        return MultistepRows(**fresh_rows(x, index, sde), data=no_data(x, self.memory))

    def advance(
        self, rows: MultistepRows, score: Tensor, t_next: Tensor, z: Any, sde: SDE
    ) -> tuple[Tensor, dict[str, Tensor]]:
        line = line_of(self, rows, sde)
        data = remember(rows, score, sde)
        x = combine(line[:, :-1], rows.x, data)
        if z is not None:
            x = x + expand_as_batch(line[:, -1], x) * z
        return x, {"data": data[:, :-1]}

    @abc.abstractmethod
    def coefficients(self, sde: SDE, t: Tensor) -> Tensor:
        """The table: a_k, b_k0, ..., b_k(memory), c_k for each step, (steps, memory + 3).

        Args:
            sde: The forward SDE.
            t: The times from T to t_eps, (steps + 1,), float64 on the host.
        """


def no_data(x: Tensor, memory: int) -> Tensor:
    """Zeros in place of past data predictions, for the rows x (B, *): (B, memory, *)."""
    return x.new_zeros(len(x), memory, *x.shape[1:])


def remember(rows: MultistepRows, score: Tensor, sde: SDE) -> Tensor:
    """The data prediction at (rows.x, rows.t), followed by the past ones, (B, 1 + memory, *)."""
    present = sde.tweedie_denoise(rows.x, rows.t, score)
    return torch.cat([present.unsqueeze(1), rows.data], dim=1)


def line_of(solver: Multistep, rows: Rows, sde: SDE) -> Tensor:
    """The line of the table for the step of each row, (B, ...).

    An arrived row gets the last line, which it does not use.
    """
    table = _table(solver, sde, rows.t.device)
    return table[rows.accepted.clamp(max=len(table) - 1)]


def combine(coefficients: Tensor, x: Tensor, data: Tensor) -> Tensor:
    """a x + sum_j b_j D_j for each row, (B, *).

    Args:
        coefficients: a, b_0, b_1, ..., (B, 1 + n).
        x: State, (B, *).
        data: D_0, D_1, ..., (B, n, *).
    """
    a, *b = coefficients.unbind(1)
    total = expand_as_batch(a, x) * x
    # Not as one matrix product, whose rounding could depend on the number of rows.
    for b_j, d_j in zip(b, data.unbind(1), strict=True):
        total = total + expand_as_batch(b_j, x) * d_j
    return total


@lru_cache(maxsize=64)
def _table(solver: Multistep, sde: SDE, device: torch.device) -> Tensor:
    """The coefficients of all steps, on the device of the rows and in the dtype of times."""
    t = time_grid(sde, solver.resolved(sde).steps, solver.schedule, device)
    return solver.coefficients(sde, t.cpu().double()).to(t.dtype).to(device)
