"""The samples of a cell, drawn in pieces of n, one a repeat. Piece r has the sample indices r n .. r n + n - 1 in every cell.

A piece is kept in a file of its own as soon as it is drawn, with what it was drawn with; a piece that is there is not drawn again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from io import BytesIO
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ggf_cli.comparison.step_sizes import steps_of
from ggf_cli.engine import Engine, FinishedSample, Outcome, Progress
from ggf_cli.files import open_file
from ggf_cli.noise import STREAM
from ggf_cli.runs.layout import write_atomically
from ggf_cli.runs.run_log import peak_memory
from ggf_cli.trace import Trace

if TYPE_CHECKING:
    from ggf_cli.runs.distributed import Job

P = TypeVar("P", bound="Piece")
TRACED = 32  # samples whose steps are recorded
# Bytes of its file; 50,000 images of 256 x 256 with their states have some 1e10 at most
MAX_PIECE = 2**34
Report = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Samples in the order of their indices, and what they cost.

    Attributes:
        images: Those that reached the end, (M, C, H, W) uint8.
        x: The same as the solver left them, (M, C, H, W); empty unless they were asked for.
        nfe: Of every sample, (N,) int64.
        lost: How many did not reach the end.
        accepted: Steps, in all.
        rejected: Attempts thrown away, in all.
        network_calls: Network calls.
        rows_evaluated: Rows over all calls.
        seconds: Wall time.
        peak_memory: Bytes, -1 where nobody knows.
        step_t: Times at which some of the samples made a step, (K,).
        step_h: And its size, (K,).
    """

    images: Tensor
    x: Tensor
    nfe: Tensor
    lost: int
    accepted: int
    rejected: int
    network_calls: int
    rows_evaluated: int
    seconds: float
    peak_memory: int
    step_t: Tensor
    step_h: Tensor

    def first(self, count: int) -> Piece:
        """The same account with the images of the first few samples, and without their states."""
        return replace(self, images=self.images[:count].clone(), x=self.x[:0].clone())


@dataclass(frozen=True, kw_only=True)
class Share(Piece):
    """What one process has drawn of a piece.

    Attributes:
        index: Of every sample, rising, (N,) int64.
        done: Which of them reached the end, (N,) bool.
    """

    index: Tensor
    done: Tensor


def draw(engine: Engine, indices: range, *, keep_x: bool, on_tick: Report) -> Piece:
    """Draw the samples of these indices.

    Args:
        engine: Fresh: its accounts become those of the piece.
        indices: Which.
        keep_x: Keep the states too, for metrics that compare them with an exact distribution.
        on_tick: Called after every tick; what it raises ends the drawing.
    """
    return together([draw_share(engine, indices, keep_x=keep_x, on_tick=on_tick)])


def draw_share(
    engine: Engine, indices: range, *, keep_x: bool, on_tick: Report, job: Job | None = None
) -> Share:
    """Draw those of these samples that fall to this process of a job; all of them without one. The arguments are those of `draw`."""
    device = torch.device(engine.model.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    trace = Trace(indices[:TRACED], engine.model.sde.T)

    def tick(progress: Progress) -> None:
        trace.update(progress)
        on_tick(progress)

    start = perf_counter()
    finished: list[FinishedSample] = []
    for sample in job.share(engine, indices, tick) if job else engine.run(indices, tick):
        trace.finish(sample)
        finished.append(sample)
    seconds = perf_counter() - start
    finished.sort(key=lambda sample: sample.index)
    done = [sample for sample in finished if sample.outcome is Outcome.DONE]
    shape = (0, *engine.model.shape)
    images = [(sample.image * 255).round().to(torch.uint8) for sample in done]
    step_t, step_h = steps_of(trace)
    return Share(
        index=torch.tensor([sample.index for sample in finished], dtype=torch.int64),
        done=torch.tensor(
            [sample.outcome is Outcome.DONE for sample in finished], dtype=torch.bool
        ),
        images=torch.stack(images) if done else torch.zeros(shape, dtype=torch.uint8),
        x=torch.stack([s.x.float() for s in done]) if done and keep_x else torch.zeros(shape),
        nfe=torch.tensor([sample.nfe for sample in finished], dtype=torch.int64),
        lost=len(finished) - len(done),
        accepted=sum(sample.accepted for sample in finished),
        rejected=sum(sample.rejected for sample in finished),
        network_calls=engine.progress.network_calls,
        rows_evaluated=engine.progress.rows_evaluated,
        seconds=seconds,
        peak_memory=peak_memory(device) or -1,
        step_t=step_t,
        step_h=step_h,
    )


def together(shares: Sequence[Share]) -> Piece:
    """The piece that these are all shares of."""
    index = [share.index for share in shares]
    arrived = [share.index[share.done] for share in shares]
    kept_x = any(len(share.x) for share in shares)
    return Piece(
        images=_in_order(arrived, [share.images for share in shares]),
        x=_in_order(arrived, [s.x for s in shares]) if kept_x else shares[0].x,
        nfe=_in_order(index, [share.nfe for share in shares]),
        lost=sum(share.lost for share in shares),
        accepted=sum(share.accepted for share in shares),
        rejected=sum(share.rejected for share in shares),
        network_calls=sum(share.network_calls for share in shares),
        rows_evaluated=sum(share.rows_evaluated for share in shares),
        seconds=max(share.seconds for share in shares),
        peak_memory=max(share.peak_memory for share in shares),
        step_t=torch.cat([share.step_t for share in shares]),
        step_h=torch.cat([share.step_h for share in shares]),
    )


def _in_order(index: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """The rows of several tensors as one, by the sample index of each."""
    rising = torch.cat(list(index)).sort().values
    result = values[0].new_empty((len(rising), *values[0].shape[1:]))
    for own, rows in zip(index, values, strict=True):
        result[torch.searchsorted(rising, own)] = rows
    return result


def settings_of(engine: Engine, indices: range) -> dict[str, Any]:
    """What a piece depends on, as JSON data."""
    model, solver = engine.model, engine.solver
    provenance = model.provenance or {}
    return {
        "model": provenance.get("sha256") or model.name,
        **({"config": provenance["config"]} if provenance.get("config") else {}),
        "sde": model.sde.to_dict(),
        "solver": solver.name,
        "options": solver.options(),
        "precision": model.precision,
        "compiled": model.compiled,
        "seed": engine.seed,
        "noise": STREAM,
        "indices": [indices.start, indices.stop],
    }


def keep(path: Path, piece: Piece, settings: dict[str, Any]) -> None:
    """Write a piece, or a share, with the settings that it was drawn with (JSON data).

    Raises:
        OutputError: Disk full, or not writable.
    """
    arrays: dict[str, Any] = {f.name: np.asarray(getattr(piece, f.name)) for f in fields(piece)}
    buffer = BytesIO()
    np.savez_compressed(buffer, settings=np.array(canonical(settings)), **arrays)
    write_atomically(path, buffer.getvalue())


def kept(path: Path, settings: dict[str, Any]) -> Piece | None:
    """The piece that was drawn with these very settings, if it is there and whole."""
    return _read(path, settings, Piece)


def kept_share(path: Path, settings: dict[str, Any]) -> Share | None:
    """The same of a share."""
    return _read(path, settings, Share)


def canonical(settings: dict[str, Any]) -> str:
    """The same text for the same settings."""
    return json.dumps(settings, sort_keys=True)


def _read(path: Path, settings: dict[str, Any], kind: type[P]) -> P | None:
    try:
        with open_file(path, MAX_PIECE) as content, np.load(content, allow_pickle=False) as file:
            if str(file["settings"]) != canonical(settings):
                return None
            arrays = {f.name: file[f.name] for f in fields(kind)}
    except Exception:  # noqa: BLE001 - damage can surface as almost anything; the piece is drawn again
        return None
    values: dict[str, Any] = {
        name: torch.from_numpy(array) if array.ndim else array.item()
        for name, array in arrays.items()
    }
    return kind(**values)
