"""Record the authors' JAX code with `sde_improved_euler` False, for tests/solvers/test_lamba.py.

    python tests/data/record_lamba.py FOLDER tests/data/lamba.json

FOLDER holds sampling.py of AlexiaJM/score_sde_fast_sampling (5da8f3f). Only its function
AdaptivePredictor.update_fn is executed, with numpy in place of jax, in float64. One sample of the
Gaussian data of tests/support/problems.py is drawn, with the noise of ggf. Stored: the time after
every attempt and the state at t_eps. The authors' loop replaces x'_prev by x before every attempt
("state").
"""

import ast
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from ggf_cli.noise import Noise
from problems import VE, VP, gaussian_score

SEED, SHAPE, EPS_REL = 11, (1, 4, 4), 0.02


def load(folder, noise):
    tree = ast.parse((Path(folder) / "sampling.py").read_text())
    cls = next(n for n in tree.body if getattr(n, "name", "") == "AdaptivePredictor")
    tree.body = [n for n in cls.body if getattr(n, "name", "") == "update_fn"]
    names = {
        "jnp": np,
        "jax": types.SimpleNamespace(vmap=lambda f: f),
        "random": types.SimpleNamespace(normal=lambda draw, shape: noise(draw)),
        "batch_mul": lambda a, b: a.reshape(-1, 1, 1, 1) * b,
        "batch_mul_3": lambda a, b, c: (a.reshape(-1) * b.reshape(-1)).reshape(-1, 1, 1, 1) * c,
    }
    exec(compile(tree, "sampling.py", "exec"), names)
    return names["update_fn"]


def record(folder, sde, norm, reference):
    noise = Noise(seed=SEED, shape=SHAPE, dtype=torch.float64)
    index = torch.tensor([0])

    def reverse_sde(x, t):
        x, t = torch.as_tensor(x), torch.as_tensor(t)
        return sde.reverse_drift(x, t, gaussian_score(sde)(x, t)).numpy(), sde.diffusion(t).numpy()

    norms = {
        "l2": lambda e: np.sqrt(np.mean(e**2, axis=(1, 2, 3), keepdims=True)),
        "linf": lambda e: np.max(np.abs(e), axis=(1, 2, 3), keepdims=True),
    }
    predictor = types.SimpleNamespace(
        rsde=types.SimpleNamespace(sde=reverse_sde),
        sde_improved_euler=False,
        extrapolation=False,
        error_use_prev=True,
        reltol=EPS_REL,
        abstol=sde.eps_abs,
        norm_fn=norms[norm],
        safety=0.9,
        exp=0.5,
        eps=sde.t_eps,
    )
    update = load(folder, lambda draw: noise(index, index + draw).numpy())
    x = x_prev = sde.prior_sampling(noise(index, index)).numpy()
    t, h, times = np.array([1.0]), np.array([0.01]), []
    while t[0] > sde.t_eps + 1e-9:
        if reference == "state":
            x_prev = x
        x, x_prev, t, h = update(predictor, len(times) + 1, x, t, h, x_prev)
        times.append(float(t[0]))
    return {
        "sde": sde.name,
        "norm": norm,
        "reference": reference,
        "t": times,
        "x_at_t_eps": x[0].tolist(),
    }


def main():
    runs = [
        record(sys.argv[1], sde, norm, reference)
        for sde in (VP, VE)
        for norm in ("l2", "linf")
        for reference in ("proposal", "state")
    ]
    out = {"seed": SEED, "shape": SHAPE, "eps_rel": EPS_REL, "runs": runs}
    Path(sys.argv[2]).write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
