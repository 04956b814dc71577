"""The tables of metrics and of feature spaces. Importing this module does not import torch.

A feature space maps samples to rows of features and has a reference; a metric is a function of
features and reference. A new metric is one file, and one entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ggf_cli.errors import UsageError
from ggf_cli.registry import Entry, lookup

# The array of a `.npz` reference with samples.
SAMPLES = "x"

# What a metric takes of the reference, see `Metric.reference_form`.
ReferenceForm = Literal["moments", "same_size", "all"]


class ModelFacts(Protocol):
    """What the choice of a metric depends on: a `ScoreModel`, or a model that is not loaded."""

    @property
    def name(self) -> str:
        """The name of the model."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""

    @property
    def data_range(self) -> object:
        """The range of pixels; None if samples are not images."""

    @property
    def distribution(self) -> object:
        """The exact distribution; None if it is not known."""

    @property
    def conditional(self) -> bool:
        """Whether each sample has a condition."""


@dataclass(frozen=True, kw_only=True)
class Metric(Entry):
    """A metric: a function of features and reference, one entry of the table.

    Attributes:
        title: The name in tables and plots.
        space: The feature space of the metric; None: the first one that fits the model.
        reference_form: The arguments of the function after the features (N, D). "moments": the mean
            (D,) and covariance (D, D) of the reference. "same_size": N features of the reference,
            or all if there are fewer. "all": all M features of the reference.
        lower_is_better: Whether lower values are better; otherwise higher ones are.
        digits: The number of decimals in tables and plots.
        min_samples: The minimum number of samples.
        influence: Import path of the influence function, which takes the same arguments and returns
            (N,) of mean 0. None: there is none.
        excess: Import path of the excess of the value over its limit for many samples, which takes
            the same arguments. None: there is none.
    """

    title: str
    space: str | None = None
    reference_form: ReferenceForm = "same_size"
    lower_is_better: bool = True
    digits: int = 3
    min_samples: int = 2
    influence: str | None = None
    excess: str | None = None


METRICS: dict[str, Metric] = {
    "ffd": Metric(
        target="ggf_cli.metrics.frechet:frechet",
        title="FFD",
        space="fashion",
        reference_form="moments",
        digits=2,
        influence="ggf_cli.metrics.frechet:influence",
        excess="ggf_cli.metrics.frechet:excess",
        summary="Fréchet distance to Fashion-MNIST in the features of a small classifier (not FID)",
    ),
    "frechet": Metric(
        target="ggf_cli.metrics.frechet:frechet",
        title="Fréchet",
        space="pixels",
        reference_form="moments",
        influence="ggf_cli.metrics.frechet:influence",
        excess="ggf_cli.metrics.frechet:excess",
        summary="Fréchet distance to the exact mean and covariance",
    ),
    "swd": Metric(
        target="ggf_cli.metrics.sliced:sliced_wasserstein",
        title="sliced W",
        space="pixels",
        digits=4,
        summary="sliced 2-Wasserstein distance to the same number of exact samples",
    ),
    "energy": Metric(
        target="ggf_cli.metrics.energy:energy_distance",
        title="energy",
        space="pixels",
        digits=4,
        summary="unbiased energy distance to the same number of exact or reference samples",
    ),
    "fid": Metric(
        target="ggf_cli.metrics.frechet:frechet",
        title="FID",
        space="inception",
        reference_form="moments",
        digits=2,
        influence="ggf_cli.metrics.frechet:influence",
        excess="ggf_cli.metrics.frechet:excess",
        summary="Fréchet distance to the reference in Inception features",
    ),
    "kid": Metric(
        target="ggf_cli.metrics.kernel:kid",
        title="KID",
        space="inception",
        reference_form="all",
        digits=5,
        summary="unbiased kernel distance (MMD²) to the reference in Inception features",
    ),
    "precision": Metric(
        target="ggf_cli.metrics.manifold:precision",
        title="precision",
        lower_is_better=False,
        min_samples=4,
        summary="fidelity: share of the samples in the region of the real ones",
    ),
    "recall": Metric(
        target="ggf_cli.metrics.manifold:recall",
        title="recall",
        lower_is_better=False,
        min_samples=4,
        summary="diversity: share of the real samples in the region of the drawn ones",
    ),
    "coverage": Metric(
        target="ggf_cli.metrics.manifold:coverage",
        title="coverage",
        lower_is_better=False,
        min_samples=6,
        summary="diversity: share of the real samples with a drawn one nearby",
    ),
}


@dataclass(frozen=True, kw_only=True)
class SpaceEntry(Entry):
    """A feature space, one entry of the table; the first entry that fits a model is used.

    Attributes:
        fits: fits(model, reference, reference_form): whether the space has features of the model's
            samples, and a reference of this form.
        defaults: The default metrics; the first one determines best and recommended settings.
        min_samples: The minimum number of samples of metrics that compare moments.
    """

    fits: Callable[[ModelFacts, Path | None, ReferenceForm], bool]
    defaults: tuple[str, ...]
    min_samples: int = 2


def _fits_inception(
    model: ModelFacts, reference: Path | None, reference_form: ReferenceForm
) -> bool:
    images = model.data_range is not None and len(model.shape) == 3 and model.shape[0] in (1, 3)
    if reference is None or holds_samples(reference):
        return False
    # A file of statistics has moments only.
    return images and (reference_form == "moments" or reference.is_dir())


def _fits_pixels(model: ModelFacts, reference: Path | None, reference_form: ReferenceForm) -> bool:
    # The distribution of a conditional model is not that of its samples.
    exact = model.distribution is not None and not model.conditional
    return exact or (reference is not None and holds_samples(reference))


def holds_samples(reference: Path) -> bool:
    """Whether a reference is a `.npz` file with samples, the array `x`; else of statistics."""
    # Imported here: every command imports this module.
    import zipfile

    try:
        with zipfile.ZipFile(reference) as file:
            return f"{SAMPLES}.npy" in file.namelist()
    # A folder, or a damaged file, whose reading reports the reason.
    except (OSError, zipfile.BadZipFile):
        return False


def _fits_fashion(model: ModelFacts, reference: Path | None, reference_form: ReferenceForm) -> bool:
    return model.data_range is not None and model.shape == (1, 28, 28)


SPACES: dict[str, SpaceEntry] = {
    "inception": SpaceEntry(
        target="ggf_cli.metrics.inception:Inception",
        fits=_fits_inception,
        defaults=("fid", "precision", "recall"),
        summary="a model of images, and a reference (--reference FOLDER; for fid also a file of"
        " statistics)",
    ),
    "pixels": SpaceEntry(
        target="ggf_cli.metrics.pixels:Pixels",
        defaults=("frechet", "swd"),
        fits=_fits_pixels,
        summary="a model whose distribution is known exactly, or --reference FILE.npz with"
        " samples x",
    ),
    "fashion": SpaceEntry(
        target="ggf_cli.metrics.fashion:Fashion",
        defaults=("ffd", "precision", "recall"),
        fits=_fits_fashion,
        # A covariance of 64 features from fewer than 128 images is mostly noise.
        min_samples=128,
        summary="a model of 28 x 28 Fashion-MNIST images",
    ),
}


def metrics_for(model: ModelFacts, reference: Path | None = None) -> list[str]:
    """Return the names of the metrics that samples of a model can be evaluated by.

    Args:
        model: The model whose samples are evaluated.
        reference: A folder of images, or a `.npz` file of statistics.

    Raises:
        UsageError: The reference is neither a folder nor a `.npz` file.
    """
    _check_reference(reference)
    return [name for name in METRICS if space_of(name, model, reference)]


def default_metrics(model: ModelFacts, reference: Path | None = None) -> list[str]:
    """Return the names of the default metrics for samples of a model; may be empty.

    The first one determines best and recommended settings.

    Raises:
        UsageError: As `metrics_for`.
    """
    _check_reference(reference)
    for space, entry in SPACES.items():
        if entry.fits(model, reference, "moments"):
            return [name for name in entry.defaults if space_of(name, model, reference) == space]
    return []


def space_of(name: str, model: ModelFacts, reference: Path | None = None) -> str | None:
    """Return the feature space of a metric for samples of a model; None if there is none."""
    metric = METRICS[name]
    for space, entry in SPACES.items():
        if metric.space in (None, space) and entry.fits(model, reference, metric.reference_form):
            return space
    return None


def spaces_of(
    names: Sequence[str], model: ModelFacts, reference: Path | None = None
) -> dict[str, str]:
    """Return the feature space of each metric, {metric: space}.

    Raises:
        UsageError: Unknown metric, or no reference of the model for it.
    """
    available = f"metrics for {model.name}: {', '.join(metrics_for(model, reference)) or 'none'}"
    spaces: dict[str, str] = {}
    for name in names:
        lookup(METRICS, name, "metric", available)
        if (space := space_of(name, model, reference)) is None:
            raise UsageError(
                f"metric '{name}' needs {_requirement(name, reference)}", hint=available
            )
        spaces[name] = space
    return spaces


def min_samples_of(metric: str, space: str) -> int:
    """Return the fewest samples of a metric in a feature space."""
    of_space = SPACES[space].min_samples if METRICS[metric].reference_form == "moments" else 0
    return max(METRICS[metric].min_samples, of_space)


def _requirement(name: str, reference: Path | None) -> str:
    """Name what is missing for a metric, for the message."""
    metric = METRICS[name]
    if reference is not None and reference.is_file() and metric.space in (None, "inception"):
        content = "samples, not images" if holds_samples(reference) else "their statistics only"
        return f"images, and {reference} has {content}"
    return SPACES[metric.space].summary if metric.space else "real or exact samples"


def _check_reference(reference: Path | None) -> None:
    if reference is None or reference.is_dir():
        return
    if not reference.is_file():
        raise UsageError(
            f"the reference {reference} does not exist",
            hint="a folder of PNG or JPEG images, or a .npz file with mu and sigma, or samples x",
        )
    if reference.suffix != ".npz":
        raise UsageError(
            f"the reference {reference} is neither a folder nor a .npz file",
            hint="unpack archives to a folder of images",
        )
