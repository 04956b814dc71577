"""Predictor–corrector: Langevin steps at each noise level, then a reverse diffusion step.

At each time t on the grid, a and v being the forward kernel of the step (see `reverse-diffusion`):

    corrector, corrector_steps times       step = 2 a^2 (snr |z| / |score(x, t)|)^2
                                           x <- x + step score(x, t) + sqrt(2 step) z
    predictor                              x <- (2 - a) x + v score(x, t) + sqrt(v) z

|.| is the norm over the elements of a row. Song's code averages both norms over the batch, so that
each image depends on the others; at batch size 1 the two are the same. a^2 is the alpha_i = 1 -
beta_i of Song's VP corrector, and 1 for VE. A Langevin step of finite size has its own stationary
distribution: for Gaussian data its variance is too large by the factor 1 / (1 - snr^2), 2.6 % at
the default, for any number of steps. If the score is 0 everywhere, the step would be infinite, and
no correction is made.

N steps and the denoising cost (1 + corrector_steps) N + 1 evaluations: no corrector runs at t_eps,
as in the code of arXiv:2105.14080. (Song's own code has N - 1 of these steps, then a corrector and
the denoising at t_eps.)

Each step of this solver is one evaluation, and then one correction or prediction. A row stores the
number of corrections at its present t.

Reference: Song et al. 2021, arXiv:2011.13456, section 4.2, algorithms 2 to 5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ggf_cli.score import ScoreFunction
from ggf_cli.sde import SDE, expand_as_batch
from ggf_cli.solvers.base import NoiseFunction, Rows, forward_kernel, fresh_rows, option, where_rows
from ggf_cli.solvers.fixed import FixedStep
from ggf_cli.solvers.reduction import mean_square

# From Song's configurations for CIFAR-10; the registry entry of a model may recommend another
# value.
SNR = 0.16


@dataclass(frozen=True, kw_only=True)
class PredictorCorrectorRows(Rows):
    """The rows of the predictor–corrector solver.

    Attributes:
        corrections: Corrector steps made at the present t, (B,) int64.
    """

    corrections: Tensor


@dataclass(frozen=True, kw_only=True)
class PredictorCorrector(FixedStep[PredictorCorrectorRows]):
    """Reverse diffusion with a Langevin corrector."""

    name: ClassVar[str] = "pc"
    kind: ClassVar[Literal["sde", "ode"]] = "sde"
    evaluations: ClassVar[str] = "1 + corrector-steps"

    snr: float | None = option(
        None,
        "signal-to-noise ratio of a corrector step, 0.16 unless the model has its own",
        above=0,
        high=1e3,
    )
    corrector_steps: int = option(1, "corrector steps before each predictor step", low=1, high=1e6)

    def start(self, x: Tensor, index: Tensor, sde: SDE) -> PredictorCorrectorRows:
        return PredictorCorrectorRows(
            **fresh_rows(x, index, sde), corrections=torch.zeros_like(index)
        )

    def step(
        self, rows: PredictorCorrectorRows, score: ScoreFunction, noise: NoiseFunction, sde: SDE
    ) -> PredictorCorrectorRows:
        x, t = rows.x, rows.t
        grid = self.grid(rows, sde)
        last = len(grid) - 1
        arrived = rows.accepted == last
        predicts = ~arrived & (rows.corrections == self.corrector_steps)
        corrects = ~arrived & ~predicts

        answer = score(x, t)
        z = noise(rows.index, rows.draws)

        # Correction and prediction are both x <- keep x + step score + noise_scale z.
        t_next = grid[(rows.accepted + 1).clamp(max=last)]
        a, v = forward_kernel(sde, t, t_next)
        langevin = 2 * (a * self._snr).square() * _squared_ratio(z, answer).to(t.dtype)
        keep = torch.where(predicts, 2 - a, 1)
        step = torch.where(predicts, v, langevin)
        noise_scale = torch.sqrt(torch.where(predicts, v, 2 * langevin))
        moved = expand_as_batch(keep, x) * x + expand_as_batch(step, x) * answer
        moved = moved + expand_as_batch(noise_scale, x) * z

        accepted = rows.accepted + predicts
        return rows.replace(
            draws=rows.draws + ~arrived,
            x=where_rows(arrived, sde.tweedie_denoise(x, t, answer), moved),
            t=torch.where(predicts, t_next, t),
            accepted=accepted,
            done=arrived if self.denoise else accepted == last,
            corrections=torch.where(corrects, rows.corrections + 1, 0),
        )

    def nfe_of(self, steps: int) -> int:
        return (1 + self.corrector_steps) * steps + int(self.denoise)

    def resolved(self, sde: SDE) -> Self:
        return replace(super().resolved(sde), snr=self._snr)

    @property
    def _snr(self) -> float:
        return SNR if self.snr is None else self.snr


def _squared_ratio(z: Tensor, score: Tensor) -> Tensor:
    """(|z| / |score|)^2 of each row: (B, *) and (B, *) -> (B,); 0 where the score is 0."""
    size = mean_square(score)
    return torch.where(size > 0, mean_square(z) / size, 0)
