"""Parts of training/ where a wrong formula would cause no error: times, loss, optimizer."""

import math
import sys

import pytest
import torch
from torch import nn

from ggf_cli.sde import VESDE, VPSDE, SubVPSDE
from paths import ROOT

sys.path.append(str(ROOT / "training"))
from optimizer import MuonAdam
from train import denoising_loss, noise_times

SDES = (VPSDE(), VESDE(sigma_max=45.0), SubVPSDE())


@pytest.mark.parametrize("sde", SDES, ids=lambda sde: sde.name)
def test_noise_times_are_one_quarter_uniform_and_otherwise_normal_in_log_noise(sde):
    t = noise_times(sde, 4000, 1e-5, (0.5, 1.2), torch.Generator().manual_seed(0))
    assert t.min() >= 1e-5
    assert t.max() <= 1
    assert t[:1000].sort().values == pytest.approx(torch.linspace(0, 1, 1000), abs=2e-3)
    log_noise = -sde.half_log_snr(t[1000:])
    assert float(log_noise.median()) == pytest.approx(0.5, abs=0.01)
    assert float(log_noise.quantile(0.8413) - log_noise.median()) == pytest.approx(1.2, abs=0.02)


@pytest.mark.parametrize("sde", SDES, ids=lambda sde: sde.name)
def test_the_loss_weights_the_error_of_the_noise_by_the_noise_level(sde):
    x0, z = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    for ratio, weight in ((0.1, 1.02), (2.0, 9.0), (10.0, 20.0)):
        t = sde.time_at(torch.tensor([-math.log(ratio)], dtype=torch.float64))

        def half_right(x, t):
            return -x / (2 * sde.sigma(t).square().to(x.dtype))[:, None, None, None]

        assert float(denoising_loss(half_right, sde, x0, t, z)) == pytest.approx(weight / 4, 1e-4)


def test_the_optimizer_fits_every_kind_of_parameter_and_continues_from_its_state():
    def fresh() -> tuple[nn.Module, MuonAdam]:
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.SiLU(), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(256, 1)
        )
        return network, MuonAdam(network, lr=0.01)

    def run(network: nn.Module, optimizer: MuonAdam, steps: int) -> float:
        x = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        for _ in range(steps):
            loss = (network(x)[:, 0] - x.mean((1, 2, 3))).square().mean()
            network.zero_grad()
            loss.backward()
            optimizer.step(0.01)
        return float(loss.detach())

    network, optimizer = fresh()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    first = run(network, optimizer, 1)
    assert all(not torch.equal(p, before[name]) for name, p in network.named_parameters())
    assert run(network, optimizer, 29) < first / 10

    again, other = fresh()
    run(again, other, 10)
    state = other.state_dict()
    resumed, third = fresh()
    resumed.load_state_dict(again.state_dict())
    third.load_state_dict(state)
    run(resumed, third, 20)
    for p, q in zip(network.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q)
