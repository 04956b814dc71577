"""Adapters: the score from a network that predicts data, noise or a velocity; its checks.

With x = alpha x0 + sigma eps, the state of the SDE at time t, and s = sigma / (alpha + sigma):

    denoiser       D(x) = E[x0 | x]                      score = (alpha D - x) / sigma^2
    noise          e(x) = E[eps | x]                     score = -e / sigma
    v-prediction   v(x) = E[alpha eps - sigma x0 | x]    score = -(alpha v + sigma x)
                                                                 / (sigma (alpha^2 + sigma^2))
    flow-matching  u(y) = E[eps - x0 | y],               score = -(y + (1 - s) u) / sigma
                   y = x / (alpha + sigma) = (1 - s) x0 + s eps
    edm            D(y) = E[x0 | y],  y = x / alpha      score = (alpha D - x) / sigma^2

The last two rescale x: a state of any SDE, divided by a number, is a state of the process that the
network was trained on, at the time with the same ratio of alpha and sigma.

Reference: Karras et al. 2022, arXiv:2206.00364 (edm); Salimans and Ho 2022, arXiv:2202.00512
(v-prediction); Lipman et al. 2023, arXiv:2210.02747 (flow-matching).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor, nn

from ggf_cli.errors import EvalModeWarning, GGFError, SolveError, UsageError, first_line
from ggf_cli.files import sha256_of
from ggf_cli.runtime.devices import time_dtype as finest_times
from ggf_cli.runtime.memory import out_of_memory
from ggf_cli.scalars import shown
from ggf_cli.sde import SDE, expand_as_batch

# A network of the user: x (B, *), labels (B,), and the conditions (B, ...) of a conditional model
# -> (B, *).
Network = Callable[..., Tensor]
LabelName = Literal["t", "999t", "sigma", "log_sigma/4", "flow"]
# What a network takes for the noise level: a name, or a function t (B,) -> labels (B,).
Labels = LabelName | Callable[[Tensor], Tensor]
Kind = Literal["denoiser", "noise", "v-prediction", "flow-matching", "edm"]


class Settings(TypedDict, total=False):
    """Arguments of `ScoreModel` that its other constructors take too."""

    name: str
    network: nn.Module | None
    device: torch.device | str | None
    dtype: torch.dtype
    time_dtype: torch.dtype | None
    data_range: tuple[float, float] | None
    provenance: dict[str, Any] | None
    distribution: Any
    recommended: Mapping[str, Any]
    conditional: bool
    null_condition: float | Tensor | None


LABELS: dict[str, Callable[[SDE, Tensor], Tensor]] = {
    "t": lambda sde, t: t,
    "999t": lambda sde, t: 999.0 * t,
    "sigma": lambda sde, t: sde.sigma(t) / sde.alpha(t),
    "log_sigma/4": lambda sde, t: torch.log(sde.sigma(t) / sde.alpha(t)) / 4,
    "flow": lambda sde, t: sde.sigma(t) / (sde.alpha(t) + sde.sigma(t)),
}


@dataclass(frozen=True)
class Prediction:
    """A kind of prediction.

    Attributes:
        scale: alpha, sigma -> the number that x is divided by.
        score: Output of the network (B, *), x (B, *), alpha, sigma -> score (B, *).
    """

    scale: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _from_data(data: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    return (alpha * data - x) / sigma.square()


def _from_noise(noise: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    return -noise / sigma


def _from_v(v: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    return -(alpha * v + sigma * x) / (sigma * (alpha.square() + sigma.square()))


def _from_flow(velocity: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    # y = x / (alpha + sigma) and 1 - s = alpha / (alpha + sigma)
    return -(x + alpha * velocity) / ((alpha + sigma) * sigma)


def _one(alpha: Tensor, sigma: Tensor) -> Tensor:
    return torch.ones_like(alpha)


PREDICTIONS: dict[Kind, Prediction] = {
    "denoiser": Prediction(_one, _from_data),
    "noise": Prediction(_one, _from_noise),
    "v-prediction": Prediction(_one, _from_v),
    "flow-matching": Prediction(lambda alpha, sigma: alpha + sigma, _from_flow),
    "edm": Prediction(lambda alpha, sigma: alpha, _from_data),
}


def score_of(
    network: Network, kind: Kind, labels: Labels, sde: SDE, dtype: torch.dtype, times: torch.dtype
) -> Network:
    """Return the score of a network: x (B, *), t (B,) -> (B, *), in the dtype of x.

    Args:
        network: Called with x in `dtype` and labels in `times`; integer labels stay integers.
        kind: What the network predicts.
        labels: What the network takes for the noise level.
        sde: The SDE of x and t.
        dtype: The dtype of the network's x.
        times: The dtype of the network's labels.
    """
    prediction, label_of = PREDICTIONS[kind], _label_function(labels, sde)

    def score(x: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        alpha, sigma = expand_as_batch(sde.alpha(t), x), expand_as_batch(sde.sigma(t), x)
        label = label_of(t)
        if label.is_floating_point():
            label = label.to(times)
        scaled = (x / prediction.scale(alpha, sigma)).to(dtype)
        output = network(scaled, label, *conditions)
        return prediction.score(output.to(x.dtype), x, alpha, sigma)

    return score


def _label_function(labels: Labels, sde: SDE) -> Callable[[Tensor], Tensor]:
    if isinstance(labels, str) and labels in LABELS:
        return partial(LABELS[labels], sde)
    if isinstance(labels, str) or not callable(labels):
        raise UsageError(
            f"labels is {shown(labels)}, it must be one of {', '.join(LABELS)}, or a function"
            " from t to labels"
        )
    given = labels

    def label(t: Tensor) -> Tensor:
        found = given(t)
        if not isinstance(found, Tensor) or found.shape[:1] != t.shape:
            raise UsageError(
                f"`labels` returned {_described(found)} for t {_described(t)}, expected a tensor"
                " with a label for each t"
            )
        return found

    return label


def in_times(score: Network, dtype: torch.dtype) -> Network:
    """Return the score with t converted to `dtype`; a score that was converted stays as it is."""
    if getattr(score, "times", None) == dtype:
        return score

    def converted(x: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        return score(x, t.to(dtype), *conditions)

    converted.times = dtype  # type: ignore[attr-defined]
    return converted


# --- the network ----------------------------------------------------------------------------------


def check_dtype(name: str, dtype: object) -> None:
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise UsageError(f"{name} is {dtype}, it must be a floating-point type of torch")


def module_of(network: Any) -> nn.Module | None:
    """The module behind a callable: itself, the owner of a method, the function of a `partial`."""
    if isinstance(network, partial):
        return module_of(network.func)
    owner = getattr(network, "__self__", network)
    return owner if isinstance(owner, nn.Module) else None


def put_in_eval_mode(module: nn.Module | None, *, stacklevel: int) -> None:
    """Put a module in training mode into eval mode, with an `EvalModeWarning`."""
    if module is not None and any(part.training for part in module.modules()):
        module.eval()
        warnings.warn(
            f"{type(module).__name__} was in training mode and is now in eval mode",
            EvalModeWarning,
            stacklevel=stacklevel + 1,
        )


def device_of(module: nn.Module | None) -> torch.device | str:
    """The device of the first parameter or buffer of a module; "cpu" without one."""
    for tensors in (module.parameters(), module.buffers()) if module is not None else ():
        for tensor in tensors:
            return tensor.device
    return "cpu"


def weights_sha256(module: nn.Module) -> str:
    """The SHA-256 of the weights and buffers of a module, with their names, types and shapes."""
    lines = []
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, Tensor):
            values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest = sha256_of(values.numpy().tobytes())
            lines.append(f"{name} {tensor.dtype} {tuple(tensor.shape)} {digest}\n")
    return sha256_of("".join(lines).encode())


@torch.no_grad()
def try_out(
    make_score: Callable[[Network], Network],
    network: Network,
    *conditions: Tensor,
    name: str,
    sde: SDE,
    shape: tuple[int, ...],
    device: torch.device | str,
    dtype: torch.dtype,
) -> None:
    """Evaluate a network on two rows of noise, at T and t_eps, and check its output.

    Args:
        make_score: Makes the score from the network.
        network: The network.
        conditions: The conditions of the two rows, if it is conditional.
        name: The name of the model, for messages.
        sde: The SDE.
        shape: The shape of a sample.
        device: The device of x and t.
        dtype: The dtype of x when the score is called.

    Raises:
        UsageError: The network raised an error, or its output is no floating-point tensor of the
            shape of x.
        SolveError: The output is not finite.
    """
    place = torch.device(device)
    t = torch.tensor([sde.T, sde.t_eps], dtype=finest_times(place), device=place)
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).to(place, dtype)

    def checked(x: Tensor, label: Tensor, *given: Tensor) -> Tensor:
        return _check(_call(network, name, x, label, *given), x, t, name)

    make_score(checked)(expand_as_batch(sde.sigma(t), noise) * noise, t, *conditions)


def _call(network: Network, name: str, x: Tensor, label: Tensor, *conditions: Tensor) -> Any:
    try:
        return network(x, label, *conditions)
    except Exception as error:
        if isinstance(error, GGFError) or out_of_memory(error):
            raise
        given = "".join(f", conditions {_described(entries)}" for entries in conditions)
        raise UsageError(
            f"the network of {name} failed on x {_described(x)}, t {_described(label)}{given}:"
            f" {first_line(error)}",
            hint="`shape`, `dtype`, `time_dtype`, `device`, `labels` and `conditional` decide what"
            f" it is called with{_weights(network)}",
        ) from error


def _check(output: Any, x: Tensor, t: Tensor, name: str) -> Tensor:
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.shape != x.shape:
        raise UsageError(
            f"the network of {name} returned {_described(output)}, expected a floating-point tensor"
            f" of shape {tuple(x.shape)}, as x",
            hint="pass a function that returns that: lambda x, t: network(x, t)...",
        )
    for row, time in zip(output, t.tolist(), strict=True):
        if not row.isfinite().all():
            raise SolveError(
                f"the network of {name} returned NaN or infinity for noise at t = {time:g},"
                " expected finite numbers",
                hint="check its weights and the `labels` that it takes",
            )
    return output


def _weights(network: Network) -> str:
    """The dtype and device of the weights of a network, as the end of a hint."""
    module = module_of(network)
    weight = next(module.parameters(), None) if module is not None else None
    return "" if weight is None else f"; its weights are {weight.dtype} on {weight.device}"


def _described(value: object) -> str:
    """Describe a value by dtype and shape."""
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)} on {value.device}"
    return f"a {type(value).__name__}"
