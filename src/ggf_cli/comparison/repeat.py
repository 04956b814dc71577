"""A repeat of a cell: a run, and its results as a comparison uses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ggf_cli.metrics.evaluator import Evaluator
from ggf_cli.runs.documents import RunLog
from ggf_cli.runs.load_samples import RunSamples
from ggf_cli.runs.pictures import Picture, picture_of

# Samples of each cell in the figure of samples.
PICTURED: dict[Picture | None, int] = {
    "grid": 16,
    "lines": 4,
    "scatter": 2000,
    "histogram": 2000,
    None: 0,
}


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """Results of one repeat of a cell. The samples themselves stay on the disk.

    Attributes:
        run: The folder of the run, relative to that of the comparison.
        nfe: Evaluations of each sample by rising index, (N,) int64.
        lost: Number of samples that did not reach the end.
        accepted: Accepted steps, in all.
        rejected: Rejected attempts, in all.
        network_calls: Network calls.
        rows_evaluated: Rows over all calls.
        seconds: Wall time of sampling.
        peak_memory_bytes: Peak memory; None if unknown.
        step_times: Step times of the first samples.
        pictures: The first samples: images (k, C, H, W) uint8, or states (k, *shape), where those
            that did not reach the end are NaN; empty if samples have no picture.
    """

    run: str
    nfe: np.ndarray
    lost: int
    accepted: int
    rejected: int
    network_calls: int
    rows_evaluated: int
    seconds: float
    peak_memory_bytes: int | None
    step_times: list[list[float]]
    pictures: Tensor

    @property
    def mean_nfe(self) -> float:
        """Mean evaluations of a sample."""
        return float(self.nfe.mean())


def make_repeat(run: str, log: RunLog, samples: RunSamples | None) -> Repeat:
    """Collect the results of a run.

    Args:
        run: The folder of the run, relative to that of the comparison.
        log: The content of its `run.json`.
        samples: Its samples; None if none reached the end.
    """
    by_index = sorted(log.samples, key=lambda sample: sample.index)
    return Repeat(
        run=run,
        nfe=np.array([sample.nfe for sample in by_index], np.int64),
        lost=sum(sample.status != "done" for sample in by_index),
        accepted=log.steps.accepted,
        rejected=log.steps.rejected,
        network_calls=log.network_calls,
        rows_evaluated=log.rows_evaluated,
        seconds=log.timing.sample_s,
        peak_memory_bytes=log.peak_memory_bytes,
        step_times=[t.tolist() for t in samples.step_times if len(t)] if samples else [],
        pictures=_pictures(log, samples) if samples else torch.zeros(0),
    )


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A metric of the samples of a repeat.

    Attributes:
        groups: See `Evaluator.groups`; their mean is the value.
        excess: See `Evaluator.excess`.
    """

    groups: list[float]
    excess: float | None


def evaluate(samples: RunSamples, evaluators: Sequence[Evaluator]) -> dict[str, Evaluation]:
    """Evaluate the samples of a repeat, {metric: its evaluation}.

    Raises:
        UsageError: A metric cannot evaluate the samples.
    """
    images = _images(samples)
    x = images if samples.x is None else torch.from_numpy(samples.x)
    found = {}
    for evaluator in evaluators:
        own = x if evaluator.sample_form == "x" else images
        groups = evaluator.groups(own)
        found[evaluator.name] = Evaluation(groups=groups, excess=evaluator.excess(own))
    return found


def _pictures(log: RunLog, samples: RunSamples) -> Tensor:
    """The pictured samples of a run, see `Repeat.pictures`."""
    picture = picture_of(log.model.shape, log.model.images is not False)
    images, count = _images(samples), PICTURED[picture]
    if picture != "lines":
        return images[:count].clone()
    # A column of the figure has the signals of one sample index.
    indices = sorted(sample.index for sample in log.samples)[:count]
    signals = torch.full((len(indices), *images.shape[1:]), torch.nan, dtype=images.dtype)
    for place, index in enumerate(indices):
        for found in np.flatnonzero(samples.index == index):
            signals[place] = images[found]
    return signals


def _images(samples: RunSamples) -> Tensor:
    """The images as (M, C, H, W) uint8; the states if samples are not images."""
    images = torch.from_numpy(samples.images)
    return images.permute(0, 3, 1, 2).contiguous() if images.dtype == torch.uint8 else images
