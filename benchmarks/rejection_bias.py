"""Measure the bias of the paper's rejections in two dimensions, for docs/research/LOG.md.

python benchmarks/rejection_bias.py [--n 10000]
"""

import argparse

import torch

from ggf_cli.engine import Engine
from ggf_cli.networks.mixture import two_dimensional
from ggf_cli.parametrizations import exact
from ggf_cli.score import ScoreModel
from ggf_cli.sde import VESDE, VPSDE, SubVPSDE
from ggf_cli.solvers import make_solver

SETTINGS = [("em", {"steps": 1000})] + [("adaptive", {"eps_rel": e}) for e in (0.1, 0.02, 0.005)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000)
    n = parser.parse_args().n
    mixture = two_dimensional().double()
    print("exact:", mixture.weight.tolist(), mixture.moments()[1].flatten().tolist())
    for sde in (VPSDE(), VESDE(sigma_max=50.0), SubVPSDE()):
        model = ScoreModel(score=exact(mixture, sde), sde=sde, shape=(2,), dtype=torch.float64)
        for name, options in SETTINGS:
            engine = Engine(model, make_solver(name, options), batch_size=n)
            x = torch.stack([finished.x for finished in engine.run(range(n))])
            p = engine.progress
            nearest = torch.cdist(x, mixture.mean).argmin(1)
            weights = torch.bincount(nearest, minlength=3) / n
            print(
                f"{sde.name:6} {name:9} {options} NFE {p.nfe_finished / n:.1f}"
                f" rejected {p.rejected / (p.accepted + p.rejected):.1%}"
                f" weights {[round(w, 3) for w in weights.tolist()]}"
                f" covariance {[round(c, 3) for c in torch.cov(x.T).flatten().tolist()]}"
            )


if __name__ == "__main__":
    main()
