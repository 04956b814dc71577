"""How good samples are: the table of metrics, and of the spaces that they see samples in. Reading it imports no torch.

A space turns samples into rows of features and has a reference to compare them with; a metric is a function of features:

    fashion      features of a small classifier, against Fashion-MNIST
    pixels       the numbers themselves, against a distribution that is known exactly
    inception    features of Inception, against images that the user has

`make_judges` brings them together for one model:

    for judge in make_judges(default_metrics(model), model):
        print(judge.title, judge.judge(images), judge.floor(len(images), 3))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ggf_cli.errors import UsageError
from ggf_cli.registry import Entry, lookup

if TYPE_CHECKING:
    import torch

    from ggf_cli.metrics.feature_network import FeatureNetwork
    from ggf_cli.metrics.judge import Judge
    from ggf_cli.score import ScoreModel

Against = Literal["moments", "as many", "all"]


@dataclass(frozen=True, kw_only=True)
class Metric(Entry):
    """A function of features: one line of the table.

    Attributes:
        title: As tables and plots write it.
        space: The only space it is for; None: the first that the model has.
        against: What the function takes after the features (N, D): "moments", the mean (D,) and covariance (D, D) of
            the reference; or features of the reference, "as many" as samples or "all".
        lower_is_better: Or higher.
        digits: Decimals worth printing.
        fewest: Number of samples below which it says nothing.
        influence: Where there is the function of the same arguments that says how much each row moves the value, (N,) of mean 0.
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
class Space(Entry):
    """One line of the table of spaces; those of a model are tried in this order.

    Attributes:
        fits: fits(model, reference, against): whether the model can be seen in it, and there is that to compare with.
        defaults: The metrics that are taken unless others are asked for; the first decides.
    """

    fits: Callable[[ScoreModel, Path | None, Against], bool]
    defaults: tuple[str, ...]


def _inception(model: ScoreModel, reference: Path | None, against: Against) -> bool:
    images = len(model.shape) == 3 and model.shape[0] in (1, 3)
    return images and reference is not None and (against == "moments" or reference.is_dir())


SPACES: dict[str, Space] = {
    "inception": Space(
        target="ggf_cli.metrics.inception:Inception", fits=_inception, defaults=("fid", "precision", "recall"),
        summary="a model of images, and others to compare with (--reference FOLDER; for fid a file of statistics will do)",
    ),
    "pixels": Space(
        target="ggf_cli.metrics.pixels:Pixels", defaults=("frechet", "swd"),
        fits=lambda model, reference, against: model.distribution is not None,
        summary="a model whose distribution is known exactly",
    ),
    "fashion": Space(
        target="ggf_cli.metrics.fashion:Fashion", defaults=("ffd", "precision", "recall"),
        fits=lambda model, reference, against: tuple(model.shape) == (1, 28, 28),
        summary="a model of 28 x 28 Fashion-MNIST images",
    ),
}  # fmt: skip


def metrics_for(model: ScoreModel, reference: Path | None = None) -> list[str]:
    """Names of the metrics that can judge samples of a model.

    Args:
        model: Whose samples are judged.
        reference: A folder of images, or a `.npz` file of statistics.

    Raises:
        UsageError: The reference is neither.
    """
    _check(reference)
    return [name for name in METRICS if space_of(name, model, reference)]


def default_metrics(model: ScoreModel, reference: Path | None = None) -> list[str]:
    """Those of `metrics_for` that are taken unless others are asked for, the one that decides first; may be empty.

    Raises:
        UsageError: As `metrics_for`.
    """
    _check(reference)
    for space, entry in SPACES.items():
        if entry.fits(model, reference, "moments"):
            return [name for name in entry.defaults if space_of(name, model, reference) == space]
    return []


def space_of(name: str, model: ScoreModel, reference: Path | None = None) -> str | None:
    """The space in which the metric called `name` sees samples of a model, if it can judge them."""
    metric = METRICS[name]
    for space, entry in SPACES.items():
        if metric.space in (None, space) and entry.fits(model, reference, metric.against):
            return space
    return None


def make_judges(
    names: Sequence[str],
    model: ScoreModel,
    *,
    reference: Path | None = None,
    device: torch.device | str = "cpu",
    network: FeatureNetwork | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Judge]:
    """Metrics, each with its reference loaded, that share what they see; features of the reference are computed here.

    Args:
        names: Of `METRICS`.
        model: Whose samples are judged.
        reference: A folder of images, or a `.npz` file of statistics.
        device: Where feature networks run. Distances are computed on the CPU.
        network: Stands in for Inception.
        on_progress: Told how many images of the reference are read, and of how many.

    Raises:
        UsageError: No such metric, the model has nothing to compare with by it, or the reference cannot be used.
        CheckpointError: Weights of a feature network are missing, corrupt or cannot be fetched.
    """
    available = f"metrics for {model.name}: {', '.join(metrics_for(model, reference)) or 'none'}"
    spaces: dict[str, str] = {}
    for name in names:
        lookup(METRICS, name, "metric", available)
        if (space := space_of(name, model, reference)) is None:
            raise UsageError(f"metric '{name}' needs {_needs(name, reference)}", hint=available)
        spaces[name] = space
    from ggf_cli.metrics.judge import Judge, Seen

    seen = {
        space: Seen(
            SPACES[space]
            .load()
            .open(
                model, reference=reference, device=device, network=network, on_progress=on_progress
            )
        )
        for space in dict.fromkeys(spaces.values())
    }
    return [Judge(name, seen[spaces[name]]) for name in names]


def _needs(name: str, reference: Path | None) -> str:
    metric = METRICS[name]
    if reference is not None and reference.is_file() and metric.space in (None, "inception"):
        return f"images, and {reference} has their statistics only"
    return SPACES[metric.space].summary if metric.space else "real or exact samples"


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
