"""Outputs of the published weights, compared with those of the publishers' code.

Downloads up to 2 GB: pytest -m network

Expected values: scripts/generate_logits.py of diffusers. Its input is `torch.manual_seed(0);
torch.randn(1, 3, S, S)` at timestep 10. It compares the first values of the output, within 1e-3.
"""

import math

import pytest
import torch

import ggf_cli

pytestmark = [pytest.mark.network, pytest.mark.slow]

# The score at sigma = 10.
NCSNPP = {
    "church": [0.1192, 0.1240, 0.0414, 0.0606, -0.0557, -0.0412, 0.0430, 0.2042],
    "ffhq-256": [0.1075, 0.1074, 0.0205, 0.0431, -0.0774, -0.0607, 0.0298, 0.2042],
    "celebahq-256": [0.1154, 0.1218, 0.0307, 0.0526, -0.0711, -0.0541, 0.0366, 0.2078],
    "bedroom": [0.1321, 0.1337, 0.0440, 0.0622, -0.0591, -0.0370, 0.0503, 0.2133],
    "ffhq-1024": [0.0911, 0.1107, 0.0182, 0.0435, -0.0805, -0.0608, 0.0381, 0.2172],
}
# The predicted noise at label 10.
DDPM = {
    "cifar10-ddpm": [-0.7515, -1.6883, 0.2420, 0.0300, 0.6347],
    "church-ddpm": [-2.0585, -2.7897, -0.2850, -0.8940, 1.9052],
    "church-ddpm-ema": [-2.0628, -2.7667, -0.2089, -0.8263, 2.0539],
    "bedroom-ddpm": [-2.3139, -2.5594, -0.0197, -0.6785, 1.7001],
    "bedroom-ddpm-ema": [-2.3639, -2.5344, 0.0054, -0.6674, 1.5990],
    "celebahq-ddpm": [-1.3690, -1.9720, -0.4090, -0.6966, 1.4660],
    "celebahq-ddpm-ema": [-1.3525, -1.9628, -0.3956, -0.6860, 1.4664],
    "cat-ddpm": [-1.4572, -2.0481, -0.0414, -0.6005, 1.4136],
    "cat-ddpm-ema": [-1.4574, -2.0569, -0.0473, -0.6117, 1.4018],
}


def noise(model):
    torch.manual_seed(0)
    return torch.randn(1, *model.shape)


@pytest.mark.parametrize("name", NCSNPP)
def test_ncsnpp_scores(name):
    model = ggf_cli.load_model(name, device="cpu")
    sde = model.sde
    t = math.log(10 / sde.sigma_min) / math.log(sde.sigma_max / sde.sigma_min)
    score = model.score(noise(model), torch.tensor([t], dtype=torch.float64))
    found = score[0, 0, 0, : len(NCSNPP[name])]
    torch.testing.assert_close(found, torch.tensor(NCSNPP[name]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", DDPM)
def test_ddpm_noise_predictions(name):
    model = ggf_cli.load_model(name, device="cpu")
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)[10]
    # The t at which VP has the noise of level 10: alpha(t)^2 = alpha_bar.
    b, c = model.sde.beta_min, -math.log(alpha_bar)
    a = (model.sde.beta_max - b) / 2
    t = torch.tensor([(-b + math.sqrt(b * b + 4 * a * c)) / (2 * a)], dtype=torch.float64)
    answer = -model.score(noise(model), t) * float(model.sde.sigma(t))
    found = answer[0, 0, 0, : len(DDPM[name])]
    torch.testing.assert_close(found, torch.tensor(DDPM[name]), rtol=0, atol=1e-3)
