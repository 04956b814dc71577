"""Train a score network on Fashion-MNIST by denoising score matching; write a native checkpoint.

    python training/train.py training/fashion-vp.toml --out runs/train-fashion-vp [--hours 2]

The same command works on CPU and CUDA. One step:

    t ~ `noise_times`,  x = alpha x0 + sigma z
    loss = mean of w |sigma score(x, t) + z|^2,  w = min(1 + 2 (sigma / alpha)^2, 20)

(Song et al. 2021, arXiv:2011.13456, eq. 7 with lambda = w sigma^2.) The weight is that of
v-prediction for data of variance 1/2 (Salimans and Ho 2022, arXiv:2202.00512), bounded as in Hang
et al. 2023 (arXiv:2303.09556): at high noise, a small error of the noise is a large error of the
image. Muon, linear warm-up and cosine decay of the learning rate to 0, exponential moving average
of the weights. The state is saved atomically every few minutes; `--resume` continues from it, with
the data order and the noise of an uninterrupted run.
"""

import argparse
import json
import math
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from fashion_mnist import load
from ggf_cli.checkpoints.native import Checkpoint, read, to_bytes
from ggf_cli.networks import NETWORKS
from ggf_cli.parametrizations import PARAMETRIZATIONS
from ggf_cli.runs.layout import write_atomically
from ggf_cli.runtime.devices import resolve_device
from ggf_cli.runtime.precision import fast_bf16
from ggf_cli.sde import SDE, expand_as_batch, sde_from_dict
from optimizer import MuonAdam

ROOT = Path(__file__).parents[1]
SAVE_EVERY_S = 300.0
MAX_WEIGHT = 20.0


@dataclass(frozen=True, kw_only=True)
class Config:
    """A configuration file.

    Attributes:
        network: {name, ...}: a key of NETWORKS, and the network's configuration.
        parametrization: A key of PARAMETRIZATIONS.
        sde: The SDE, as in `SDE.to_dict`.
        steps: The number of optimizer steps.
        batch_size: Images a step.
        learning_rate: Learning rate after the warm-up.
        warmup: The number of warm-up steps.
        ema: Decay of the moving average.
        t_min: The smallest training time.
        focus: Mean and standard deviation of ln(sigma / alpha) for most of the training, see
            `noise_times`.
        init: Path of a native checkpoint with initial weights, relative to the repository. Its SDE
            may be another.
        fourier_scale: Standard deviation of the random Fourier frequencies, if the network has any.
            Song's 16 suits trainings of a million steps; smooth features learn faster.
        flip: Whether images are mirrored at random. Off by default: shoes have a direction.
        seed: Seed of weights, data order and noise.
    """

    network: dict[str, Any]
    parametrization: str
    sde: dict[str, Any]
    steps: int
    batch_size: int = 128
    learning_rate: float = 5e-4
    warmup: int = 500
    ema: float = 0.9995
    t_min: float = 1e-5
    focus: tuple[float, float] = (0.5, 1.2)
    init: str = ""
    fourier_scale: float = 1.0
    flip: bool = False
    seed: int = 0


def train(config: Config, out: Path, device: torch.device, hours: float, resume: bool) -> None:
    """Train for the configured number of steps, at most for `hours`; save regularly."""
    sde = sde_from_dict(config.sde)
    torch.manual_seed(config.seed)
    network = NETWORKS[config.network["name"]].load()(**_network_config(config)).to(device)
    _initialise(network, config.fourier_scale)
    if config.init:
        tensors = read(ROOT / config.init).tensors
        network.load_state_dict({name: value.float() for name, value in tensors.items()})
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    score = PARAMETRIZATIONS[config.parametrization](network, sde)
    optimizer = MuonAdam(network, config.learning_rate)
    images = load()[0].to(device)
    low, high = sde.data_range
    images = (images + 1) / 2 * (high - low) + low

    done, losses, recent = 0, [], 0.0
    if resume and (out / "state.pt").is_file():
        state = torch.load(out / "state.pt", map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        average, done = state["average"], state["step"]
        losses, recent = state["losses"], state["recent"]

    start = saved = time.monotonic()
    for step in range(done, config.steps):
        x0, t, z = _batch(images, sde, step, config, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=fast_bf16(device)):
            loss = denoising_loss(score, sde, x0, t, z)
        network.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step(config.learning_rate * _schedule(step, config))
        decay = min(config.ema, (1 + step) / (10 + step))
        weights = list(network.state_dict().values())
        torch._foreach_lerp_(list(average.values()), weights, 1 - decay)

        recent += float(loss.detach()) / 100
        over = time.monotonic() - start > 3600 * hours or step + 1 == config.steps
        if (step + 1) % 100 == 0:
            losses.append(recent)
            rate = (step + 1 - done) / (time.monotonic() - start)
            print(
                f"step {step + 1}/{config.steps}  loss {recent:.4f}  {rate:.1f} steps/s", flush=True
            )
            recent = 0.0
        if over or time.monotonic() - saved > SAVE_EVERY_S:
            saved = time.monotonic()
            state = {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average,
                "step": step + 1,
                "losses": losses,
                "recent": recent,
            }
            _save(out, state, config, sde, images.shape[1:])
        if over:
            break


def denoising_loss(
    score: Callable[[Tensor, Tensor], Tensor], sde: SDE, x0: Tensor, t: Tensor, z: Tensor
) -> Tensor:
    """Mean of w |sigma(t) score(alpha x0 + sigma z, t) + z|^2 over a batch, see the module.

    Args:
        score: score(x, t).
        sde: The SDE.
        x0: Images, (B, *).
        t: Times, (B,) float64.
        z: Standard normal noise, (B, *).
    """
    mean, sigma = sde.marginal_prob(x0, t)
    scale = expand_as_batch(sigma, x0)
    errors = (scale * score(mean + scale * z, t).float() + z).square()
    weight = (1 + 2 * (sigma / sde.alpha(t)).square()).clamp(max=MAX_WEIGHT)
    return (expand_as_batch(weight, x0) * errors).mean()


def noise_times(
    sde: SDE, n: int, t_min: float, focus: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Draw the times of a batch in [t_min, 1], (n,) float64.

    A quarter is uniform in t. For the others ln(sigma / alpha) is normal (Karras et al. 2022,
    arXiv:2206.00364, table 1), around the noise levels that determine the content of the image. Of
    a uniform t of the VP SDE, half would have sigma > 3.4 alpha; of a uniform log sigma of the VE
    SDE, most would have too little noise to matter.
    """
    uniform = n // 4
    t = t_min + (1 - t_min) * _spread(uniform, generator)
    mean, std = focus
    noise_to_signal = mean + std * torch.special.ndtri(_spread(n - uniform, generator))
    return torch.cat([t, sde.time_at(-noise_to_signal).clamp(t_min, 1)])


def _spread(n: int, generator: torch.Generator) -> Tensor:
    """Draw one number in each of n equal parts of [0, 1], (n,): stratified sampling."""
    return (torch.arange(n) + torch.rand(n, generator=generator).double()) / n


def _batch(
    images: Tensor, sde: SDE, step: int, config: Config, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw images, times and noise of one step; they depend on the seed and the step only."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    n = config.batch_size
    x0 = images[torch.randint(len(images), (n,), generator=generator).to(device)]
    if config.flip:
        mirrored = torch.rand(n, generator=generator).to(device) < 0.5
        x0 = torch.where(mirrored[:, None, None, None], x0.flip(-1), x0)
    t = noise_times(sde, n, config.t_min, config.focus, generator)
    z = torch.randn(x0.shape, generator=generator)
    return x0, t.to(device), z.to(device)


def _schedule(step: int, config: Config) -> float:
    """Factor of the learning rate: linear warm-up, then a cosine to 0."""
    warm = min(1.0, (step + 1) / config.warmup)
    return warm * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def _network_config(config: Config) -> dict[str, Any]:
    return {key: value for key, value in config.network.items() if key != "name"}


def _initialise(network: nn.Module, fourier_scale: float) -> None:
    """Draw the Fourier frequencies, and set the last convolution to 0, so that outputs are 0."""
    for name, parameter in network.named_parameters():
        if name == "frequencies":
            nn.init.normal_(parameter, std=fourier_scale)
            parameter.requires_grad_(False)
    last = [module for module in network.modules() if isinstance(module, nn.Conv2d)][-1]
    nn.init.zeros_(last.weight)


def _save(
    out: Path, state: dict[str, Any], config: Config, sde: SDE, shape: tuple[int, ...]
) -> None:
    """Write the state for `--resume`, a native checkpoint of the average, and the loss curve."""
    out.mkdir(parents=True, exist_ok=True)
    torch.save(state, out / ".state.part")
    (out / ".state.part").replace(out / "state.pt")
    checkpoint = Checkpoint(
        network=config.network["name"],
        network_config=_network_config(config),
        parametrization=config.parametrization,
        sde=sde,
        shape=tuple(shape),
        tensors={name: value.half().cpu() for name, value in state["average"].items()},
        provenance={
            "source": "training/train.py on the 60,000 Fashion-MNIST training images (MIT)",
            "license": "MIT",
            "step": state["step"],
            "config": json.loads(json.dumps(vars(config))),
        },
    )
    write_atomically(out / "model.safetensors", to_bytes(checkpoint))
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([100 * (i + 1) for i in range(len(state["losses"]))], state["losses"])
    axes.set(xlabel="step", ylabel="denoising loss", yscale="log")
    figure.savefig(out / "loss.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=math.inf)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    config = Config(**tomllib.loads(args.config.read_text()))
    train(config, args.out, resolve_device(args.device), args.hours, args.resume)


if __name__ == "__main__":
    main()
