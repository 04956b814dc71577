"""Plan a run: engine, sample indices and settings, before any sample is drawn."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from ggf_cli.engine import Engine
from ggf_cli.errors import UsageError
from ggf_cli.runs.distributed import find_job
from ggf_cli.runs.documents import RunSettings
from ggf_cli.runs.images import TILE
from ggf_cli.runs.pictures import MAX_SIGNALS, picture_of
from ggf_cli.runs.run_log import as_ranges, run_settings
from ggf_cli.runs.sample_files import ExtraArray, Format
from ggf_cli.runs.strips import check_size
from ggf_cli.scalars import as_int
from ggf_cli.score import ScoreModel
from ggf_cli.solvers.catalog import as_words
from ggf_cli.trajectory import MOST

# Samples on the default grid.
MAX_GRID = 64
MAX_GRID_PIXELS = 2**28


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """A run before it is drawn.

    Attributes:
        engine: A fresh engine.
        indices: All sample indices of the run, in the order of the grid.
        settings: The first part of `run.json`: everything that samples and files depend on.
    """

    engine: Engine
    indices: Sequence[int]
    settings: RunSettings


def plan_run(
    engine: Engine,
    indices: Sequence[int],
    *,
    format: Format = "png",
    grid: tuple[int, int] | None = None,
    draw_grid: bool = True,
    arrays: Sequence[ExtraArray] = (),
    trajectory: int | None = None,
    started_at: datetime | None = None,
    model_argument: str | None = None,
    config: str | None = None,
    selection: str | None = None,
    label: str | None = None,
) -> RunPlan:
    """Plan a run.

    Args:
        engine: A fresh engine.
        indices: Sample indices, each once.
        format: How samples are stored.
        grid: Rows and columns of the grid; None: near-square, `MAX_GRID` samples at most.
        draw_grid: Draw a grid, or the plot that samples have in its place.
        arrays: Arrays to store beside the images in format "npz": "x", the states, and "times", the
            step times of the first samples.
        trajectory: Noise levels at which the samples on the grid are drawn as strips and as an
            animation, 2 at least; None: neither.
        started_at: Time of the start; None: now.
        model_argument: The value of `ggf sample --model` that loads the model; None: its name.
        config: The value of `ggf sample --config`, if the model was loaded with one.
        selection: The value of `ggf sample --indices`, if that named the samples.
        label: The value of `ggf sample --label`.

    Raises:
        UsageError: Samples that are no images in format "png" or with `trajectory`, a grid or an
            animation of more than 2^28 pixels, or of more than `MAX_SIGNALS` plots.
    """
    _check_format(engine.model, format, grid)
    size = grid or near_square(min(len(indices), MAX_GRID))
    if trajectory is not None:
        _check_trajectory(engine.model, trajectory, size)
    counted = selection is None and list(indices) == list(range(len(indices)))
    samples = {"n": len(indices)} if counted else {"indices": selection or as_ranges(indices)}
    first = {"model": model_argument or engine.model.name, "config": config, **samples}
    first["label"] = label
    last = {"grid": grid and "x".join(map(str, grid)), "format": format, "trajectory": trajectory}
    settings = run_settings(
        engine,
        indices,
        command=_command(engine, first, last),
        started_at=started_at or datetime.now().astimezone(),
        format=format,
        grid=size if draw_grid else None,
        arrays=arrays,
        trajectory=trajectory,
    )
    return RunPlan(engine=engine, indices=indices, settings=settings)


def near_square(n: int) -> tuple[int, int]:
    """Rows and columns for n images, at least as wide as high."""
    columns = max(1, int(np.ceil(np.sqrt(n))))
    return -(-n // columns), columns


def _check_format(model: ScoreModel, format: Format, grid: tuple[int, int] | None) -> None:
    """Refuse settings whose files could not be written."""
    shape, images = model.shape, model.data_range is not None
    picture = picture_of(shape, images)
    if format == "png" and not images:
        raise UsageError(
            f"the samples of {model.name} are not images, since it has no data range",
            hint="use `format` npz",
        )
    if format == "png" and picture != "grid":
        raise UsageError(
            f"samples of shape {shape} are not images of 1 or 3 channels", hint="use `format` npz"
        )
    if grid and picture == "grid":
        pixels = grid[0] * grid[1] * max(TILE, shape[1]) * max(TILE, shape[2])
        if pixels > MAX_GRID_PIXELS:
            raise UsageError(
                f"a grid of {grid[0]}x{grid[1]} has {pixels:.1e} pixels for samples of {shape}",
                hint="use a smaller grid; each sample has a file of its own",
            )
    if grid and picture == "lines" and grid[0] * grid[1] > MAX_SIGNALS:
        raise UsageError(
            f"a grid of {grid[0]}x{grid[1]} has more than {MAX_SIGNALS} plots of signals",
            hint="use a smaller grid",
        )


def _check_trajectory(model: ScoreModel, levels: int, grid: tuple[int, int]) -> None:
    """Refuse a trajectory that could not be drawn."""
    as_int(levels, "`trajectory`", low=2, high=MOST)
    if picture_of(model.shape, model.data_range is not None) != "grid":
        raise UsageError(
            f"the samples of {model.name} are not images, so their trajectories are not drawn",
            hint="from Python, ggf_cli.sample(..., trajectory=8) returns them as tensors",
        )
    check_size(model.shape, levels, grid)


def _command(engine: Engine, first: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """The `ggf sample` command that repeats a run, with every default written out."""
    # Which of several GPUs a worker uses does not matter.
    device, guidance = str(engine.model.device), engine.model.guidance
    arguments = {
        **first,
        "seed": engine.seed,
        "guidance": guidance and guidance.scale,
        "guidance-interval": guidance and guidance.interval and list(guidance.interval),
        "batch-size": engine.batch_size,
        "device": device.split(":")[0] if find_job() else device,
        "precision": engine.model.precision,
        "compile": engine.model.compiled,
        "solver": engine.solver.name,
        **engine.solver.options(),
        "t-eps": engine.model.sde.t_eps,
        "max-nfe": engine.max_nfe,
        **last,
    }
    return shlex.join(["ggf", "sample", *as_words(arguments)])
