"""Sampler functions of k-diffusion as samplers, on the VE SDE, whose sigma is their noise level.

    f(model, x, sigmas, ...)                      at Karras' levels (rho = 7), and 0 at the end
    f(model, x, sigma_min, sigma_max, [n], ...)   n: evaluations

model(x, sigma) = x + sigma^2 score is the denoiser. Rows have their own noise: of `noise_sampler`,
increments of one Brownian path, or of `torch.randn_like` if a function with `s_churn` draws it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ggf_cli.certification.brownian import BrownianNoise
from ggf_cli.certification.samplers import (
    DEFAULT_STEPS,
    MAX_CALLS,
    NoiseSource,
    Sampler,
    Score,
)
from ggf_cli.certification.specs import Spec, parse_spec
from ggf_cli.errors import SolveError, UsageError
from ggf_cli.registry import did_you_mean
from ggf_cli.sde import SDE

RHO = 7
PACKAGE, MODULE = "k_diffusion", "k_diffusion.sampling"
# The package needs thirty others for training; k_diffusion.sampling needs these.
INSTALL = "pip install --no-deps k-diffusion torchsde torchdiffeq scipy tqdm"
# Not settings: the adapter or the caller passes them.
_PASSED = ("extra_args", "callback", "disable", "noise_sampler", "return_info")
_INTERVAL = ("sigma_min", "sigma_max")
# With a value of 0 a function draws no noise.
_AMOUNTS = ("eta", "s_churn")


def from_k_diffusion(text: str) -> Sampler:
    """The sampler of "sample_heun" or "sample_dpmpp_2m_sde:steps=50,solver_type=heun".

    Raises:
        UsageError: k-diffusion is not installed, or it has no such function or setting.
    """
    spec = parse_spec(text)
    function = _find(spec.name)
    parameters = inspect.signature(function).parameters
    interval = "sigmas" not in parameters
    levels = (*_INTERVAL, "n") if interval else ("sigmas",)
    taken = ("model", "x", *levels, *_PASSED)
    spec.check_settings(key for key in parameters if key not in taken)
    has_steps = not interval or "n" in parameters
    if spec.steps is not None and not has_steps:
        raise UsageError(f"{text!r}: {spec.name} has no number of steps")
    adapter = _Adapter(spec, function, parameters)
    steps = spec.steps or DEFAULT_STEPS if has_steps else None
    return Sampler(name=f"k-diffusion:{text}", function=adapter, steps=steps, sdes=("ve",))


class _Adapter:
    """A function of k-diffusion with its settings, as a `samplers.Function`."""

    def __init__(
        self,
        spec: Spec,
        function: Callable[..., Any],
        parameters: Mapping[str, inspect.Parameter],
    ) -> None:
        self._spec = spec
        self._function = function
        self._parameters = parameters
        values = {key: p.default for key, p in parameters.items()} | spec.settings
        self._amounts = {key: values[key] for key in _AMOUNTS if key in values}

    def __call__(
        self, score: Score, sde: SDE, x_T: Tensor, noise: NoiseSource, steps: int | None
    ) -> Tensor:
        arguments: dict[str, object] = self._levels(sde, steps) | self._spec.settings
        if "disable" in self._parameters:
            # The progress bar.
            arguments["disable"] = True
        # With eta = 0 the function keeps its own noise sampler. Its noise must have no effect, and
        # the batch check would find it.
        if "noise_sampler" in self._parameters and self._amounts.get("eta", 1) != 0:
            arguments["noise_sampler"] = BrownianNoise(noise, x_T)
        churns = self._amounts.get("s_churn", 0) != 0
        replaced = _NoiseOfRows(noise) if churns else contextlib.nullcontext()
        model = _Denoiser(score, sde, self._spec.name)
        try:
            with replaced:
                answer: Tensor = self._function(model, x_T, **arguments)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"{self._spec.text!r}: {self._spec.name} refuses its settings: {error}"
            ) from error
        return answer

    def _levels(self, sde: SDE, steps: int | None) -> dict[str, object]:
        ends = sde.sigma(torch.tensor([sde.T, sde.t_eps], dtype=torch.float64))
        if "sigmas" in self._parameters:
            return {"sigmas": _karras(ends, steps or DEFAULT_STEPS)}
        high, low = ends.tolist()
        count = {"n": steps} if "n" in self._parameters else {}
        return {"sigma_min": low, "sigma_max": high, **count}


class _Denoiser:
    """model(x, sigma) of k-diffusion for the score of a VE SDE."""

    def __init__(self, score: Score, sde: SDE, name: str) -> None:
        self._score = score
        self._sde = sde
        self._name = name
        self._calls = 0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self._calls += 1
        if self._calls > MAX_CALLS:
            raise SolveError(f"{self._name} did not end after {MAX_CALLS:,} evaluations")
        sigma = sigma.double()
        t = self._sde.time_at(-sigma.log())
        return x + sigma[:, None] ** 2 * self._score(x, t)


class _NoiseOfRows(TorchFunctionMode):
    """Replace `torch.randn_like` by noise with a stream for each row."""

    def __init__(self, noise: NoiseSource) -> None:
        super().__init__()
        self._noise = noise

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        if func is torch.randn_like:
            return self._noise()
        return func(*args, **(kwargs or {}))


def _karras(ends: Tensor, steps: int) -> Tensor:
    """Noise levels of Karras et al. (2022, equation 5) from ends[0] to ends[1], then 0."""
    high, low = ends ** (1 / RHO)
    levels = torch.lerp(high, low, torch.linspace(0, 1, steps, dtype=torch.float64)) ** RHO
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)])


def _find(name: str) -> Callable[..., Any]:
    module = _load()
    known = [key for key, value in vars(module).items() if _is_sampler(key, value)]
    if name not in known:
        raise UsageError(
            f"k-diffusion has no sampler {name!r}",
            hint=did_you_mean(name, known, "like k-diffusion:sample_heun"),
        )
    function: Callable[..., Any] = getattr(module, name)
    return function


def _is_sampler(name: str, value: object) -> bool:
    """Whether this is sample_…(model, x, sigmas, …) or sample_…(model, x, sigma_min, …)."""
    if not name.startswith("sample_") or not callable(value):
        return False
    first = tuple(inspect.signature(value).parameters)
    return first[:3] == ("model", "x", "sigmas") or first[:4] == ("model", "x", *_INTERVAL)


def _load() -> types.ModuleType:
    """Import k_diffusion.sampling, without the package's `__init__`, which imports training code.

    Raises:
        UsageError: k-diffusion, or a package that it needs for sampling, is not installed.
    """
    if PACKAGE in sys.modules:
        return importlib.import_module(MODULE)
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise UsageError("k-diffusion is not installed", hint=f"{INSTALL}, to certify its samplers")
    package = types.ModuleType(PACKAGE)
    package.__path__ = list(spec.submodule_search_locations)
    with _removed_afterwards(), warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, SyntaxWarning):
            warnings.simplefilter("ignore", category)
        sys.modules[PACKAGE] = package
        try:
            importlib.import_module(f"{PACKAGE}.utils")
        except ImportError:
            # It needs torchvision; the samplers take one function of it.
            utils = types.ModuleType(f"{PACKAGE}.utils")
            vars(utils)["append_dims"] = _append_dims
            sys.modules[utils.__name__] = utils
            vars(package)["utils"] = utils
        try:
            return importlib.import_module(MODULE)
        except ImportError as error:
            raise UsageError(f"{MODULE} does not load: {error}", hint=INSTALL) from error


@contextlib.contextmanager
def _removed_afterwards() -> Iterator[None]:
    """Forget the modules of the package, so that a later import gets the whole package."""
    try:
        yield
    finally:
        for name in [key for key in sys.modules if key.split(".")[0] == PACKAGE]:
            del sys.modules[name]


def _append_dims(x: Tensor, dims: int) -> Tensor:
    """x with dimensions of size 1 at its end, `dims` in all."""
    return x[(...,) + (None,) * (dims - x.ndim)]
