"""Compile the network of a model with `torch.compile`.

The compiled code is for one shape. So the engine uses two batch sizes only: the full batch, and a
quarter of it for the end of a run, when few samples are left. Both are compiled at the start. torch
caches compiled code on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ggf_cli.errors import SolveError
from ggf_cli.runtime.memory import out_of_memory
from ggf_cli.score import ScoreModel
from ggf_cli.sde import expand_as_batch

# The smaller batch size is the batch size divided by this.
DRAIN = 4
# The batch sizes that each compiled score has been called with by `warm_up`.
_warm: WeakKeyDictionary[Callable[..., Tensor], set[int]] = WeakKeyDictionary()


def compiled(model: ScoreModel) -> ScoreModel:
    """Return the model with its score compiled as one graph.

    An exactly known score is not compiled. On CUDA the kernels are launched as one CUDA graph.
    """
    if model.distribution is not None:
        return model
    cuda = torch.device(model.device).type == "cuda"
    code = torch.compile(
        model.score, dynamic=False, fullgraph=True, mode="reduce-overhead" if cuda else "default"
    )

    def score(x: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        value: Tensor = code(x, t, *conditions)
        # The next call overwrites the memory of the CUDA graph.
        return value.clone() if cuda else value

    return replace(model, score=score, compiled=True)


def batch_sizes(model: ScoreModel, batch_size: int) -> tuple[int, ...]:
    """The batch sizes that the engine uses with a compiled network, rising."""
    return tuple(sorted({-(-batch_size // DRAIN), batch_size}))


@torch.no_grad()
def warm_up(model: ScoreModel, batch_size: int) -> None:
    """Compile the network for the batch sizes of a run now, instead of in the first calls.

    A batch size that was compiled before takes no time. If memory runs out, this returns early; the
    engine then reduces the batch size.

    Raises:
        SolveError: There is no compiler, or it failed.
    """
    sde, device = model.sde, torch.device(model.device)
    done = _warm.setdefault(model.score, set())
    for rows in batch_sizes(model, batch_size) if model.compiled else ():
        if rows in done:
            continue
        t = torch.full((rows,), sde.T, dtype=torch.float64, device=device)
        x = torch.zeros(rows, *model.shape, dtype=model.dtype, device=device)
        try:
            model.evaluate(expand_as_batch(sde.sigma(t), x) * x, t)
            done.add(rows)
        except Exception as error:
            if out_of_memory(error):
                return
            reason = str(error).splitlines()[0] if str(error) else repr(error)
            raise SolveError(
                f"the network of {model.name} cannot be compiled: {reason}",
                hint="sample without compiling; on CPUs torch.compile needs a C++ compiler",
            ) from error
