"""The noise levels and the objective of a file of denoising-diffusion-pytorch, from its buffers.

`betas` are the noise levels. The objective is not in the file, but it follows from `loss_weight`,
with s the signal-to-noise ratio alpha^2 / sigma^2 of each level:

    pred_noise   min(s, gamma) / s
    pred_x0      min(s, gamma)
    pred_v       min(s, gamma) / (s + 1)

where gamma is that of min-SNR weighting, infinite without it (Hang et al. 2023, arXiv:2303.09556).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ggf_cli.errors import CheckpointError
from ggf_cli.parametrizations import log_snr_table
from ggf_cli.sde import VPSDE

# Objectives -> predictions of the parametrization "vp-table".
OBJECTIVES = {"pred_noise": "epsilon", "pred_x0": "sample", "pred_v": "v_prediction"}
# The most noise levels in a file; the default is 1000.
MAX_LEVELS = 2**17


def read_betas(buffers: dict[str, Tensor]) -> list[float]:
    """The betas, by rising noise.

    Raises:
        CheckpointError: They are missing or not valid, or contradict `alphas_cumprod`.
    """
    betas, cumulated = buffers.get("betas"), buffers.get("alphas_cumprod")
    for buffer in (betas, cumulated):
        if buffer is None or buffer.dim() != 1 or not 2 <= len(buffer) <= MAX_LEVELS:
            raise CheckpointError(
                "it lacks the noise levels, the buffers betas and alphas_cumprod",
                hint="ggf reads models of GaussianDiffusion; for ContinuousTimeGaussianDiffusion or"
                " ElucidatedDiffusion name your own code: FILE.py:OBJECT",
            )
    assert betas is not None
    assert cumulated is not None
    betas = betas.double()
    try:
        log_snr_table(betas.tolist())
    except ValueError as error:
        raise CheckpointError(f"its noise levels are not valid: {error}") from error
    if not torch.allclose(torch.cumprod(1 - betas, 0), cumulated.double(), rtol=1e-3, atol=1e-5):
        raise CheckpointError("its buffers betas and alphas_cumprod contradict each other")
    return [float(beta) for beta in betas]


def read_objective(betas: list[float], weight: Tensor | None) -> str | None:
    """The objective, a key of `OBJECTIVES`; None if the weights are those of none.

    Args:
        betas: The betas.
        weight: The buffer `loss_weight`; None if there is none.
    """
    levels = log_snr_table(betas)
    if weight is None or weight.shape != (len(betas),):
        return None
    ratio = torch.exp(2 * levels)
    weight = weight.double()[: len(ratio)]
    for objective, factor in (
        ("pred_noise", ratio),
        ("pred_x0", torch.ones_like(ratio)),
        ("pred_v", ratio + 1),
    ):
        clipped = weight * factor
        if torch.allclose(clipped, ratio.clamp(max=float(clipped.max())), rtol=0.02, atol=0):
            return objective
    return None


def sde_of(betas: list[float], data_range: tuple[float, float]) -> VPSDE:
    """The VP SDE of score_sde within the noise levels: it starts and ends at theirs at most."""
    levels, usual = log_snr_table(betas), VPSDE()
    ends = torch.tensor([usual.t_eps, usual.T], dtype=torch.float64)
    least, most = usual.half_log_snr(ends).flip(0).tolist()
    beta_max = usual.beta_max
    if float(levels[-1]) > least:
        # -log alpha^2 at T is (beta_min + beta_max) / 2.
        exponent = torch.log1p(torch.exp(-2 * levels[-1]))
        beta_max = max(2 * float(exponent) - usual.beta_min, usual.beta_min)
    sde = VPSDE(beta_max=beta_max, data_range=data_range)
    if float(levels[0]) < most:
        first = float(sde.time_at(levels[:1]))
        sde = VPSDE(beta_max=beta_max, t_eps=min(first, 0.5), data_range=data_range)
    return sde
