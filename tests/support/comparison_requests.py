"""Small plans of comparisons, on Gaussian data."""

from dataclasses import replace

import torch

from ggf_cli.comparison.lineup import make_cells, parse_contender
from ggf_cli.comparison.plan import ComparisonPlan
from problems import VP, gaussian_model


def cells_of(*texts, **more):
    """Make the cells of solvers written as on the command line."""
    return make_cells([parse_contender(text) for text in texts], **more)


class MeanError:
    """A metric: the distance between the mean of the samples and that of the data."""

    name, title, summary = "mean", "Mean", "distance of the means"
    lower_is_better, digits, min_samples, sample_form = True, 3, 2, "x"
    dimensions = None

    def groups(self, x):
        return [float((x.double().mean() - 0.3).abs())]

    def excess(self, x):
        return None

    def floor(self, n, draws):
        return None

    def notes(self, n):
        return []


def plan(folder, *contenders, model=None, **changes):
    """Plan a comparison of 2 × 12 samples, by default of `adaptive` and `em`."""
    default = ComparisonPlan(
        model=model or gaussian_model(VP, dtype=torch.float32),
        cells=cells_of(
            *contenders or ("adaptive", "em"), eps_rel=(0.1, 0.5), reference=("em", {"steps": 60})
        ),
        evaluators=[MeanError()],
        n=12,
        repeats=2,
        seed=0,
        batch_size=8,
        folder=folder,
        command="ggf compare ...",
        model_argument="gaussian",
    )
    return replace(default, **changes)
