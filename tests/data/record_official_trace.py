"""Record the authors' PyTorch sampler, for tests/solvers/test_adaptive.py.

    python tests/data/record_official_trace.py FOLDER tests/data/official_trace.json

FOLDER holds sde_sampling_torch.py of AlexiaJM/score_sde_fast_sampling (5da8f3f) and sde_lib.py of
yang-song/score_sde_pytorch (cb1f359). The noise is that of ggf, so that the test
needs no table of noise.
"""

import json
import sys
from pathlib import Path

import torch

sys.path[:0] = [sys.argv[1], str(Path(__file__).parents[1] / "support")]
import sde_lib
import sde_sampling_torch as official

from ggf_cli.noise import Noise
from problems import VE, VP, gaussian_score

ROWS, SHAPE, SEED, EPS_REL = 4, (1, 4, 4), 11, 0.05


def record(sde, official_sde):
    noise = Noise(seed=SEED, shape=SHAPE, dtype=torch.float64)
    index = torch.arange(ROWS)
    attempt = 0
    times = []

    def randn_like(x):
        nonlocal attempt
        attempt += 1
        return noise(index, torch.full_like(index, attempt))

    torch.randn_like = randn_like
    update = official.AdaptivePredictor.update_fn

    def logged(self, x, t, h, x_prev):
        result = update(self, x, t, h, x_prev)
        times.append(result[2].tolist())
        return result

    official.AdaptivePredictor.update_fn = logged
    finals = {}
    for denoise in (False, True):
        attempt = 0
        times.clear()
        sampler = official.get_pc_sampler(
            official_sde,
            (ROWS, *SHAPE),
            official.AdaptivePredictor,
            denoise=denoise,
            device="cpu",
            eps=sde.t_eps,
            abstol=sde.eps_abs,
            reltol=EPS_REL,
            adaptive=True,
        )
        prior = sde.prior_std * noise(index, torch.zeros_like(index))
        finals[denoise] = sampler(gaussian_score(sde), prior)[0].tolist()
    official.AdaptivePredictor.update_fn = update
    return {
        "eps_rel": EPS_REL,
        "seed": SEED,
        "shape": SHAPE,
        "t": times[:],
        "x_at_t_eps": finals[False],
        "denoised": finals[True],
    }


def main():
    torch.set_default_dtype(torch.float64)
    trace = {
        "vp": record(VP, sde_lib.VPSDE(beta_min=VP.beta_min, beta_max=VP.beta_max, N=1000)),
        "ve": record(VE, sde_lib.VESDE(sigma_min=VE.sigma_min, sigma_max=VE.sigma_max, N=1000)),
    }
    Path(sys.argv[2]).write_text(json.dumps(trace) + "\n")


if __name__ == "__main__":
    main()
