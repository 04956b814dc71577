"""Record the adaptive DPM-Solver of k-diffusion, for tests/solvers/test_dpm_adaptive.py.

    python tests/data/record_k_diffusion.py FOLDER tests/data/k_diffusion.json

FOLDER holds k_diffusion/sampling.py of crowsonkb/k-diffusion (4601bf0, MIT). Only DPMSolver and its
dependencies are executed, since the rest imports packages that are not needed. One sample of the
Gaussian data of tests/support/problems.py is drawn, with the noise of ggf, in float64. Stored:
log(sigma / alpha) and the counts after every attempt, and the final state.
"""

import ast
import json
import math
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from ggf_cli.noise import Noise
from ggf_cli.sde import expand_as_batch
from problems import SUBVP, VE, VP, gaussian_score

NEEDED = {"PIDStepSizeController", "DPMSolver", "get_ancestral_step", "default_noise_sampler"}
SEED, SHAPE = 3, (16,)
TOLERANCE = {"rtol": 0.01, "atol": 0.001}
# The first step is so long that it is rejected.
PID = {"pcoeff": 0.3, "icoeff": 0.4, "dcoeff": 0.1, "h_init": 9.0}


def load(folder):
    tree = ast.parse((Path(folder) / "k_diffusion/sampling.py").read_text())
    tree.body = [node for node in tree.body if getattr(node, "name", "") in NEEDED]
    names = {"torch": torch, "math": math, "nn": torch.nn}
    exec(compile(tree, "sampling.py", "exec"), names)
    return names["DPMSolver"]


def record(solver_class, sde, order, **options):
    noise = Noise(seed=SEED, shape=SHAPE, dtype=torch.float64)
    index, draws, attempts = torch.tensor([0]), 0, []

    def model(y, sigma):
        t = sde.time_at(-torch.log(sigma))
        x = expand_as_batch(sde.alpha(t), y) * y
        return sde.tweedie_denoise(x, t, gaussian_score(sde)(x, t))

    def noise_sampler(sigma, sigma_next):
        nonlocal draws
        draws += 1
        return noise(index, index + draws)

    def callback(info):
        attempts.append([float(info["t"]), info["n_accept"], info["n_reject"]])

    t = torch.tensor([sde.T, sde.t_eps])
    solver = solver_class(model)
    y = sde.prior_sampling(noise(index, index)) / sde.alpha(t)[0]
    start, end = sde.half_log_snr(t)
    solver.info_callback = callback
    y, _ = solver.dpm_solver_adaptive(
        y, start, end, order=order, noise_sampler=noise_sampler, **TOLERANCE, **options
    )
    x = sde.alpha(t)[1] * y
    return {
        "sde": sde.name,
        "solver_order": order,
        **options,
        "attempts": attempts,
        "x": x[0].tolist(),
    }


def main():
    # k-diffusion makes its tolerances tensors of the default dtype.
    torch.set_default_dtype(torch.float64)
    solver_class = load(sys.argv[1])
    runs = [
        record(solver_class, sde, order, eta=eta, **pid)
        for sde in (VP, VE, SUBVP)
        for order in (2, 3)
        for eta, pid in ((0.0, {}), (1.0, {}), (0.0, PID))
    ]
    out = {"seed": SEED, "shape": SHAPE, **TOLERANCE, "runs": runs}
    Path(sys.argv[2]).write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
