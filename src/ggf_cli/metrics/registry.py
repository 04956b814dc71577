"""The tables of metrics and of feature spaces. Importing this imports no torch.

A feature space turns samples into rows of features and has a reference; a metric is a function of
features and reference. A new metric is one file and one line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ggf_cli.errors import UsageError
from ggf_cli.registry import Entry

if TYPE_CHECKING:
    from ggf_cli.score import ScoreModel

Against = Literal["moments", "as many", "all"]


@dataclass(frozen=True, kw_only=True)
class Metric(Entry):
    """A function of features: one line of the table.

    Attributes:
        title: As tables and plots write it.
        space: The one feature space of the metric; None: the first that fits the model.
        against: What the function takes after the features (N, D): "moments", the mean (D,) and covariance (D, D) of
            the reference; or features of the reference, "as many" as samples or "all".
        lower_is_better: Or higher.
        digits: Decimals worth printing.
        fewest: The fewest samples for which the value means anything.
        influence: The influence function, of the same arguments: (N,) of mean 0. None: unknown.
    """

    title: str
    space: str | None = None
    against: Against = "as many"
    lower_is_better: bool = True
    digits: int = 3
    fewest: int = 2
    influence: str | None = None


METRICS: dict[str, Metric] = {
    "ffd": Metric(
        target="ggf_cli.metrics.frechet:frechet", title="FFD", space="fashion", against="moments", digits=2,
        influence="ggf_cli.metrics.frechet:influence",
        summary="Fréchet distance to Fashion-MNIST in the features of a small classifier (not FID)",
    ),
    "frechet": Metric(
        target="ggf_cli.metrics.frechet:frechet", title="Fréchet", space="pixels", against="moments",
        influence="ggf_cli.metrics.frechet:influence",
        summary="Fréchet distance to the exact mean and covariance",
    ),
    "swd": Metric(
        target="ggf_cli.metrics.sliced:sliced_wasserstein", title="sliced W", space="pixels", digits=4,
        summary="sliced 2-Wasserstein distance to as many exact samples",
    ),
    "fid": Metric(
        target="ggf_cli.metrics.frechet:frechet", title="FID", space="inception", against="moments", digits=2,
        influence="ggf_cli.metrics.frechet:influence",
        summary="Fréchet distance to the reference in Inception features",
    ),
    "kid": Metric(
        target="ggf_cli.metrics.kernel:kid", title="KID", space="inception", against="all", digits=5,
        summary="kernel distance (MMD²) to the reference in Inception features, without bias at any number of samples",
    ),
    "precision": Metric(
        target="ggf_cli.metrics.manifold:precision", title="precision", lower_is_better=False, fewest=4,
        summary="fidelity: share of the samples that lie where real ones do",
    ),
    "recall": Metric(
        target="ggf_cli.metrics.manifold:recall", title="recall", lower_is_better=False, fewest=4,
        summary="diversity: share of the real samples that lie where drawn ones do",
    ),
    "coverage": Metric(
        target="ggf_cli.metrics.manifold:coverage", title="coverage", lower_is_better=False, fewest=6,
        summary="diversity: share of the real samples that have a drawn one near",
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SpaceEntry(Entry):
    """A feature space: one line of the table. They are tried in the order of the table.

    Attributes:
        fits: fits(model, reference, against): whether samples of the model have features in it, and the
            reference that `against` needs.
        defaults: The metrics by default; the first one decides.
    """

    fits: Callable[[ScoreModel, Path | None, Against], bool]
    defaults: tuple[str, ...]


def _inception(model: ScoreModel, reference: Path | None, against: Against) -> bool:
    images = len(model.shape) == 3 and model.shape[0] in (1, 3)
    return images and reference is not None and (against == "moments" or reference.is_dir())


SPACES: dict[str, SpaceEntry] = {
    "inception": SpaceEntry(
        target="ggf_cli.metrics.inception:Inception", fits=_inception, defaults=("fid", "precision", "recall"),
        summary="a model of images, and others to compare with (--reference FOLDER; for fid a file of statistics will do)",
    ),
    "pixels": SpaceEntry(
        target="ggf_cli.metrics.pixels:Pixels", defaults=("frechet", "swd"),
        fits=lambda model, reference, against: model.distribution is not None,
        summary="a model whose distribution is known exactly",
    ),
    "fashion": SpaceEntry(
        target="ggf_cli.metrics.fashion:Fashion", defaults=("ffd", "precision", "recall"),
        fits=lambda model, reference, against: tuple(model.shape) == (1, 28, 28),
        summary="a model of 28 x 28 Fashion-MNIST images",
    ),
}  # fmt: skip


def metrics_for(model: ScoreModel, reference: Path | None = None) -> list[str]:
    """Names of the metrics for samples of a model.

    Args:
        model: The model whose samples are evaluated.
        reference: A folder of images, or a `.npz` file of statistics.

    Raises:
        UsageError: The reference is neither.
    """
    _check(reference)
    return [name for name in METRICS if space_of(name, model, reference)]


def default_metrics(model: ScoreModel, reference: Path | None = None) -> list[str]:
    """Names of the default metrics for samples of a model, the deciding one first; may be empty.

    Raises:
        UsageError: As `metrics_for`.
    """
    _check(reference)
    for space, entry in SPACES.items():
        if entry.fits(model, reference, "moments"):
            return [name for name in entry.defaults if space_of(name, model, reference) == space]
    return []


def space_of(name: str, model: ScoreModel, reference: Path | None = None) -> str | None:
    """The feature space of a metric for samples of a model; None if there is none."""
    metric = METRICS[name]
    for space, entry in SPACES.items():
        if metric.space in (None, space) and entry.fits(model, reference, metric.against):
            return space
    return None


def _check(reference: Path | None) -> None:
    if reference is None or reference.is_dir():
        return
    if not reference.is_file():
        raise UsageError(
            f"the reference {reference} does not exist",
            hint="a folder of PNG or JPEG images, or a .npz file with mu and sigma",
        )
    if reference.suffix != ".npz":
        raise UsageError(
            f"the reference {reference} is neither a folder nor a .npz file",
            hint="unpack archives to a folder of images",
        )
