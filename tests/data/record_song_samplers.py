"""Record Song's predictors and corrector, for tests/solvers/test_predictor_corrector.py.

    python tests/data/record_song_samplers.py FOLDER tests/data/song_samplers.json

FOLDER is yang-song/score_sde_pytorch (cb1f359). Its `get_pc_sampler` runs unchanged, in float64, at
batch size 1. The network is replaced by the exact score of Gaussian data, torch's random numbers
by the noise of ggf, so that the test needs no table of noise. The sampler takes N steps, at t = T
to t_eps. Stored: the state after half of them; the state after all but one, which is at t_eps; and
the result, which is the last step without its noise.
"""

import json
import sys
from pathlib import Path

import torch

sys.path[:0] = [sys.argv[1], str(Path(__file__).parents[1] / "support")]
import sampling
import sde_lib

from ggf_cli.noise import Noise
from problems import SUBVP, VE, VP, gaussian_score

ROWS, SHAPE, SEED, SNR = 2, (1, 2, 3), 5, 0.16
# beta_max / N must be less than 1. Song's configurations have 1000 levels.
LEVELS, CONFIGURED = 40, 1000
PREDICTORS = {
    "reverse-diffusion": sampling.ReverseDiffusionPredictor,
    "ancestral": sampling.AncestralSamplingPredictor,
    "pc": sampling.ReverseDiffusionPredictor,
}


def song_sde(sde, levels):
    match sde.name:
        case "vp":
            return sde_lib.VPSDE(sde.beta_min, sde.beta_max, levels)
        case "subvp":
            return sde_lib.subVPSDE(sde.beta_min, sde.beta_max, levels)
        case "ve":
            return sde_lib.VESDE(sde.sigma_min, sde.sigma_max, levels)


def record(sde, solver, levels, corrector_steps=1):
    noise = Noise(seed=SEED, shape=SHAPE, dtype=torch.float64)
    rows = {"middle": [], "at_t_eps": [], "denoised": []}
    for row in range(ROWS):
        index = torch.tensor([row])
        draws = 0

        def block(*_, index=index):
            nonlocal draws
            draws += 1
            return noise(index, torch.tensor([draws - 1]))

        torch.randn = torch.randn_like = block
        # The state after each step.
        states = []

        class Predictor(PREDICTORS[solver]):
            def update_fn(self, x, t, states=states):
                x, x_mean = super().update_fn(x, t)
                states.append(x)
                return x, x_mean

        sampler = sampling.get_pc_sampler(
            song_sde(sde, levels),
            (1, *SHAPE),
            Predictor,
            sampling.LangevinCorrector if solver == "pc" else sampling.NoneCorrector,
            lambda x: x,
            snr=SNR,
            n_steps=corrector_steps,
            continuous=True,
            denoise=True,
            eps=sde.t_eps,
            device="cpu",
        )
        sampling.mutils.get_score_fn = lambda *_, **__: gaussian_score(sde)
        denoised, _ = sampler(None)
        assert len(states) == levels
        rows["middle"].append(states[levels // 2 - 1].tolist())
        rows["at_t_eps"].append(states[levels - 2].tolist())
        rows["denoised"].append(denoised.tolist())
    return rows


def main():
    torch.set_default_dtype(torch.float64)
    runs = {"seed": SEED, "shape": SHAPE, "snr": SNR, "levels": LEVELS, "configured": CONFIGURED}
    for sde in (VE, VP):
        for solver in PREDICTORS:
            runs[f"{sde.name} {solver}"] = record(sde, solver, LEVELS)
        runs[f"{sde.name} pc 2"] = record(sde, "pc", LEVELS, corrector_steps=2)
    for sde in (VE, VP, SUBVP):
        runs[f"{sde.name} reverse-diffusion {CONFIGURED}"] = record(
            sde, "reverse-diffusion", CONFIGURED
        )
    Path(sys.argv[2]).write_text(json.dumps(runs) + "\n")


if __name__ == "__main__":
    main()
