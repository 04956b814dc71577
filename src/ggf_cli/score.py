"""Score models: the score of the noisy data as one function, with everything to sample from it.

    score(x, t) = grad_x log p_t(x)            x (B, *), t (B,) -> (B, *), every row with its own t

A network rarely returns the score itself; a parametrisation converts its output to the score:
those of checkpoints are here, those of the user's own networks in `adapters.py`.
Solvers call `score(x, t)` only and do not use the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, Unpack

import torch
from torch import Tensor, nn

from ggf_cli.adapters import (
    Kind,
    Labels,
    Network,
    Settings,
    check_dtype,
    device_of,
    in_times,
    module_of,
    put_in_eval_mode,
    score_of,
    try_out,
)
from ggf_cli.errors import UsageError
from ggf_cli.guidance import Guidance, no_conditions, no_null_condition
from ggf_cli.per_sample import PerSample, PerSampleLike, as_per_sample
from ggf_cli.runtime.devices import time_dtype as finest_times
from ggf_cli.scalars import as_shape, shown
from ggf_cli.sde import SDE, check_sde

# score(x, t), or score(x, t, conditions) of a conditional model.
ScoreFunction = Callable[..., Tensor]

# The defaults of `device` and `data_range`, which other arguments decide.
_OF_MODULE: Any = None
_OF_SDE: Any = "sde"


@dataclass(frozen=True, kw_only=True)
class ScoreModel:
    """A score and everything that is needed to sample from it.

    `from_denoiser`, `from_noise`, `from_velocity` and `from_edm` make one from a network that
    predicts something else. An `nn.Module`, here and there, is evaluated once on two rows of noise;
    one in training mode is put into eval mode, with an `EvalModeWarning`.

    Args:
        score: x (B, *shape), t (B,) -> (B, *shape), on `device`: a function or an `nn.Module`; it
            must not change x. The score of a row must depend only on the x and t of that row.
        sde: The forward SDE of the score.
        shape: Shape of one sample, (C, H, W) for images; kept as a tuple.
        name: The name of the model in messages and logs.
        network: The module that `score` uses; None: `score`, if that is one. It is put into eval
            mode, and run logs have the hash of its weights.
        device: The device of the inputs of `score`. None: that of the weights of `network`, else
            the CPU.
        dtype: The dtype of x when `score` is called. Solvers keep x in it too, but at least in
            float32 (`state_dtype`).
        time_dtype: The dtype of t when `score` is called. None: `dtype`, but at least float32 for
            a function that is not an `nn.Module`. Solvers keep t in float64.
        data_range: Smallest and largest value of the data, which become 0 and 1 in images; by
            default that of the SDE. Another range replaces that of the SDE. None: the samples are
            not images, and nothing is clamped; the scale of the data in tolerances, such as the
            default of `eps_abs`, remains the data range of the SDE.
        provenance: JSON data for the run log: source, sha256, parameters, licence.
        distribution: The data distribution if it is known exactly, with `sample` and `moments` like
            those of `networks.mixture.GaussianMixture`.
        recommended: Options that suit the model, {"snr": 0.075}, for solvers where they are None.
        precision: Precision of the arithmetic, for the run log: `ggf_cli.runtime.precision`.
        compiled: The network is compiled for the batch sizes of `ggf_cli.runtime.compilation`.
        conditional: Whether `score` takes a third argument, the conditions of the rows, (B, ...).
        classes: Number of class labels 0, 1, 2 ... of a conditional model; 0: not checked.
        null_condition: The condition that the network was trained to take for none: a number, or a
            tensor of the shape of one condition. Guidance needs it.
        conditions: The conditions of the samples of a conditional model, see `with_conditions`.
        guidance: Guidance by the conditions, see `with_conditions`.
    """

    score: ScoreFunction
    sde: SDE
    shape: tuple[int, ...]
    name: str = "custom"
    network: nn.Module | None = None
    device: torch.device | str = _OF_MODULE
    dtype: torch.dtype = torch.float32
    time_dtype: torch.dtype | None = None
    data_range: tuple[float, float] | None = _OF_SDE
    provenance: dict[str, Any] | None = None
    distribution: Any = None
    recommended: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "fp32"
    compiled: bool = False
    conditional: bool = False
    classes: int = 0
    null_condition: float | Tensor | None = None
    conditions: PerSample | None = None
    guidance: Guidance | None = None

    def __post_init__(self) -> None:
        check_sde(self.sde)
        self._set(shape=as_shape(self.shape))
        check_dtype("dtype", self.dtype)
        if self.time_dtype is not None:
            check_dtype("time_dtype", self.time_dtype)
        if self.data_range is _OF_SDE:
            self._set(data_range=self.sde.data_range)
        elif self.data_range is not None:
            self._set(sde=replace(self.sde, data_range=self.data_range))
            self._set(data_range=self.sde.data_range)
        module = module_of(self.score)
        self._set(network=self.network or module)
        put_in_eval_mode(self.network, stacklevel=3)
        if self.device is _OF_MODULE:
            self._set(device=device_of(self.network))
        # Half-precision times are too coarse for a function that computes alpha and sigma.
        least = self.dtype if module is not None else self.state_dtype
        times = self.time_dtype or least
        if module is not None:
            self._try_out(lambda network: in_times(network, times), self.score, self.dtype)
        self._set(score=in_times(self.score, times))

    @classmethod
    def from_denoiser(
        cls,
        denoiser: Network,
        *,
        sde: SDE,
        shape: Sequence[int],
        labels: Labels = "t",
        **settings: Unpack[Settings],
    ) -> Self:
        """Make a model from a denoiser: D(x, label) = E[x0 | x], score = (alpha D - x) / sigma^2.

        Args:
            denoiser: x (B, *shape), labels (B,) -> (B, *shape): a function or an `nn.Module`. It
                is evaluated once on two rows of noise.
            sde: The SDE that the network was trained for.
            shape: Shape of one sample.
            labels: What the network takes for the noise level: "t"; "999t"; "sigma", which is
                sigma / alpha; "log_sigma/4", a quarter of its logarithm; "flow", which is
                sigma / (alpha + sigma); or a function from t (B,), float64, to labels (B,).
            **settings: name, network, device, dtype, time_dtype, data_range, provenance,
                distribution, recommended, conditional and null_condition, as for `ScoreModel`.
                `dtype` and `time_dtype` are those of the network's x and labels. The `dtype` of the
                model is float32 at least.

        Raises:
            UsageError: A value is not usable, the network raised an error, or its output has
                another shape or type than x.
            SolveError: The output of the network is not finite.
        """
        return cls._adapt("denoiser", denoiser, labels, sde, shape, settings)

    @classmethod
    def from_noise(
        cls,
        noise: Network,
        *,
        sde: SDE,
        shape: Sequence[int],
        labels: Labels = "t",
        **settings: Unpack[Settings],
    ) -> Self:
        """Make a model from a noise prediction: e(x, label) = E[eps | x], score = -e / sigma.

        Arguments and errors are those of `from_denoiser`.
        """
        return cls._adapt("noise", noise, labels, sde, shape, settings)

    @classmethod
    def from_velocity(
        cls,
        velocity: Network,
        *,
        convention: Literal["v-prediction", "flow-matching"],
        sde: SDE,
        shape: Sequence[int],
        labels: Labels | None = None,
        **settings: Unpack[Settings],
    ) -> Self:
        """Make a model from a velocity, of one of two conventions.

            v-prediction    v(x, label) = E[alpha eps - sigma x0 | x]; labels "t" by default
            flow-matching   u(y, label) = E[eps - x0 | y],  y = (1 - s) x0 + s eps;
                            labels "flow" by default, which is s, from 0 (data) to 1 (noise)

        A flow-matching network can be used with any SDE: it is called with y = x / (alpha + sigma)
        and s = sigma / (alpha + sigma). Other arguments and errors are those of `from_denoiser`.
        """
        if convention not in ("v-prediction", "flow-matching"):
            raise UsageError(
                f"convention is {shown(convention)}, it must be v-prediction or flow-matching"
            )
        usual: Labels = "t" if convention == "v-prediction" else "flow"
        return cls._adapt(convention, velocity, labels or usual, sde, shape, settings)

    @classmethod
    def from_edm(
        cls,
        denoiser: Network,
        *,
        sde: SDE,
        shape: Sequence[int],
        labels: Labels = "sigma",
        **settings: Unpack[Settings],
    ) -> Self:
        """Make a model from a denoiser of EDM: D(y, s) = E[x0 | y], y = x0 + s eps.

        It can be used with any SDE: it is called with y = x / alpha and s = sigma / alpha. Other
        arguments and errors are those of `from_denoiser`.
        """
        return cls._adapt("edm", denoiser, labels, sde, shape, settings)

    @classmethod
    def _adapt(
        cls,
        kind: Kind,
        network: Network,
        labels: Labels,
        sde: SDE,
        shape: Sequence[int],
        settings: Settings,
    ) -> Self:
        dtype, times = settings.get("dtype", torch.float32), settings.get("time_dtype")
        check_dtype("dtype", dtype)
        if times is not None:
            check_dtype("time_dtype", times)
        module = settings.get("network") or module_of(network)
        put_in_eval_mode(module, stacklevel=3)
        device = settings.get("device") or device_of(module)

        def make_score(network: Network) -> Network:
            return score_of(network, kind, labels, sde, dtype, times or dtype)

        # alpha, sigma and the labels are computed from t in full precision, the score in float32.
        given = settings | {
            "network": module,
            "device": device,
            "dtype": torch.promote_types(dtype, torch.float32),
            "time_dtype": finest_times(torch.device(device)),
        }
        # mypy: `device` could be None.
        model = cls(
            score=make_score(network),
            sde=sde,
            shape=as_shape(shape),
            **given,  # type: ignore[arg-type]
        )
        model._try_out(make_score, network, model.dtype)
        return model

    def _try_out(
        self, make_score: Callable[[Network], Network], network: Network, dtype: torch.dtype
    ) -> None:
        # Without conditions, a conditional network cannot be called.
        if self.conditional and self.conditions is None:
            return
        about: dict[str, Any] = {"name": self.name, "sde": self.sde, "shape": self.shape}
        given = () if self.conditions is None else (self.conditions.first(2, self.device),)
        try_out(make_score, network, *given, **about, device=self.device, dtype=dtype)

    def _set(self, **values: Any) -> None:
        """Set fields while the model is made."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def with_conditions(
        self,
        conditions: PerSampleLike | None,
        *,
        guidance: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
    ) -> ScoreModel:
        """Return the model with a condition for each sample, and guidance by it.

        Args:
            conditions: A tensor (N, ...) or a list of class labels, whose entry i belongs to sample
                index i, or a function of the indices; None: those that the model has.
            guidance: The scale of classifier-free guidance, see `Guidance`; None: that of the
                model. 1 has no effect; otherwise a guided evaluation counts as two.
            guidance_interval: The smallest and the largest noise level sigma / alpha with guidance;
                None: all.

        Raises:
            UsageError: The model is not conditional, or has no null condition for guidance, or a
                value is not valid.
        """
        model = self
        if conditions is not None:
            self._require_conditional()
            entries = as_per_sample(conditions, "conditions")
            model = replace(model, conditions=entries.checked(self.classes, self.name))
            model._try_out(lambda score: score, model.score, model.dtype)
        if guidance_interval is not None and guidance is None:
            raise UsageError("`guidance_interval` needs `guidance`")
        if guidance is not None:
            self._require_conditional()
            chosen = Guidance(scale=guidance, interval=guidance_interval)
            model = replace(model, guidance=None if chosen.scale == 1 else chosen)
        if model.guidance is not None and model.null_condition is None:
            raise no_null_condition(self.name, from_file=self._from_file)
        return model

    @property
    def _from_file(self) -> bool:
        return "network_config" in (self.provenance or {})

    def _require_conditional(self) -> None:
        if not self.conditional:
            raise no_conditions(self.name, from_file=self._from_file)

    def require_conditions(self) -> None:
        """Check that a conditional model has conditions.

        Raises:
            UsageError: It has none.
        """
        if self.conditional and self.conditions is None:
            raise UsageError(
                f"{self.name} needs conditions, such as class labels",
                hint="give `label`, or conditions= from Python",
            )

    def evaluate(self, x: Tensor, t: Tensor, index: Tensor | None = None) -> Tensor:
        """The score of the rows x (B, *) at t (B,), with the conditions of their sample indices.

        Args:
            x: The rows.
            t: Their times.
            index: Their sample indices, (B,) int64; None: 0 .. B - 1.
        """
        if self.conditions is None:
            return self.score(x, t)
        index = torch.arange(len(x), device=x.device) if index is None else index
        return self.score(x, t, self.conditions(index))

    @property
    def state_dtype(self) -> torch.dtype:
        """The dtype of x in solvers and samples: at least float32, as steps overflow float16."""
        return torch.promote_types(self.dtype, torch.float32)
