"""Record the states of the authors' ER-SDE-Solver-3, for tests/solvers/test_multistep.py.

    python tests/data/record_er_sde.py FOLDER tests/data/er_sde.json

FOLDER holds er_sde_solver.py of QinpengCui/ER-SDE-Solver (25ca6c2, MIT). The noise is that of ggf,
the score that of the Gaussian data of tests/support/problems.py, the grid that of Karras et al.
Stored: x after every step.
"""

import json
import sys
from pathlib import Path

import torch

sys.path[:0] = [sys.argv[1], str(Path(__file__).parents[1] / "support")]
from er_sde_solver import ER_SDE_Solver, customized_func

from ggf_cli.noise import Noise
from ggf_cli.solvers.schedule import time_grid
from problems import VE, VP, gaussian_score

ROWS, SHAPE, SEED, STEPS = 2, (1, 2, 2), 5, 9
FUNCTIONS = {"ode": 1, "sde": 2, "er-5": 7}


def record(sde, noise_scale):
    noise = Noise(seed=SEED, shape=SHAPE, dtype=torch.float64)
    index = torch.arange(ROWS)
    t = time_grid(sde, STEPS, "karras", torch.device("cpu"))
    draws, states = 0, []

    def randn_like(x):
        nonlocal draws
        draws += 1
        return noise(index, torch.full_like(index, draws))

    def data_prediction(x, time):
        states.append(x.tolist())
        times = time.expand(ROWS)
        return sde.tweedie_denoise(x, times, gaussian_score(sde)(x, times))

    def phi(l):
        return customized_func(l, func_type=FUNCTIONS[noise_scale])

    torch.randn_like = randn_like
    solver = ER_SDE_Solver(sde_type=sde.name, model_prediction_type="x_start")
    # The original sets variances below 1e-6 to 0. This is meant for rounding errors of the flow,
    # but affects the other noise scales too.
    solver.numerical_clip = lambda variance: variance * (noise_scale != "ode")
    x = sde.prior_sampling(noise(index, 0 * index))
    if sde.name == "ve":
        x = solver.ve_3_order_taylor(data_prediction, x, sde.sigma(t), t, fn_sigma=phi)
    else:
        # The VP half of the file takes numpy numbers.
        alphas, sigmas = sde.alpha(t).numpy(), sde.sigma(t).numpy()
        x = solver.vp_3_order_taylor(data_prediction, x, alphas, sigmas, t, fn_lambda=phi)
    return [*states[1:], x.tolist()]


def main():
    traces = {sde.name: {name: record(sde, name) for name in FUNCTIONS} for sde in (VE, VP)}
    settings = {"rows": ROWS, "shape": SHAPE, "seed": SEED, "steps": STEPS}
    Path(sys.argv[2]).write_text(json.dumps({**settings, "x": traces}) + "\n")


if __name__ == "__main__":
    main()
