"""The batch loop of the authors' PyTorch file, rewritten as the baseline for the engine.

All rows of a batch are evaluated until the slowest has finished, and the score at (x, t) is
computed again after a rejection. The formulas are those of the paper, as in
`ggf_cli.solvers.adaptive`, and the noise is that of ggf, so both draw the same samples.
"""

import torch

from ggf_cli.noise import Noise
from ggf_cli.score import ScoreModel
from ggf_cli.solvers.base import reverse_increment, where_rows
from ggf_cli.solvers.control import next_step_size, scaled_error


@torch.no_grad()
def sample_batch(
    model: ScoreModel, indices: list[int], *, seed: int, eps_rel: float
) -> torch.Tensor:
    """Draw the samples with these indices as one batch, (B, *shape)."""
    sde, score = model.sde, model.score
    noise = Noise(seed=seed, shape=model.shape, dtype=model.dtype)
    index = torch.tensor(indices)
    x = previous = sde.prior_sampling(noise(index, torch.zeros_like(index)))
    t = torch.full(index.shape, sde.T, dtype=torch.float64)
    h = torch.full_like(t, 0.01)
    attempt = 0
    while (t > sde.t_eps).any():
        attempt += 1
        z = noise(index, torch.full_like(index, attempt))
        running = t > sde.t_eps
        k1 = reverse_increment(sde, x, t, score(x, t), h, z)
        x_low = x + k1
        t_next = torch.where(h >= t - sde.t_eps, sde.t_eps, t - h)
        k2 = reverse_increment(sde, x_low, t_next, score(x_low, t_next), h, z)
        error = scaled_error(
            x_low, (k2 - k1) / 2, previous, eps_abs=sde.eps_abs, eps_rel=eps_rel
        ).to(t.dtype)
        accepted = running & (error <= 1)
        x = where_rows(accepted, x + (k1 + k2) / 2, x)
        previous = where_rows(accepted, x_low, previous)
        t = torch.where(accepted, t_next, t)
        h = torch.where(
            running, next_step_size(h, error, t - sde.t_eps, safety=0.9, exponent=0.9), h
        )
    return sde.tweedie_denoise(x, t, score(x, t))
