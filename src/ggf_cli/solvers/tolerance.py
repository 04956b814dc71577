"""The base class of adaptive solvers with the paper's relative and absolute tolerances."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from ggf_cli.sde import SDE
from ggf_cli.solvers.base import RowsT, Solver, option


def relative_tolerance(default: float) -> Any:
    """Declare the option eps_rel of an adaptive solver."""
    return option(
        default,
        "relative tolerance",
        above=0,
        high=1e30,
        share=True,
        advice=f"a smaller one is more accurate and slower, the default is {default:g};"
        " with 1e-9, `eps_abs` alone decides",
    )


@dataclass(frozen=True, kw_only=True)
class Tolerances(Solver[RowsT]):
    """A solver whose step size follows the error; if eps_abs is None, the SDE decides it."""

    adaptive: ClassVar[bool] = True

    eps_rel: float = relative_tolerance(0.02)
    eps_abs: float | None = option(None, "absolute tolerance, in units of x", above=0, high=1e30)

    def resolved(self, sde: SDE) -> Self:
        return replace(self, eps_abs=self._eps_abs(sde))

    def remark(self, sde: SDE) -> str | None:
        eps_abs = self._eps_abs(sde)
        if self.eps_rel >= eps_abs:
            return None
        return (
            f"`eps_rel` {self.eps_rel:g} is below `eps_abs` {eps_abs:.3g}: it has no effect on"
            f" values of x below {eps_abs / self.eps_rel:.3g}; for smaller steps lower `eps_abs`"
        )

    def _eps_abs(self, sde: SDE) -> float:
        return sde.eps_abs if self.eps_abs is None else self.eps_abs
