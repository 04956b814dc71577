"""The network compiled for the batch sizes that a run has: `torch.compile`.

A compiled network is code for one shape. So the engine gives it two sizes only, the full batch and a quarter of it for the end of a
run, when few samples are left; both are compiled at the start. Code that was compiled once is found again in torch's cache.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ggf_cli.errors import SolveError
from ggf_cli.runtime.memory import out_of_memory
from ggf_cli.score import ScoreModel
from ggf_cli.sde import expand_as_batch

DRAIN = 4  # a run ends with batches of so small a part


def compiled(model: ScoreModel) -> ScoreModel:
    """The model with its score as compiled code, one graph without breaks; an exactly known score is left alone.

    On CUDA its kernels are launched together, as a CUDA graph.
    """
    if model.distribution is not None:
        return model
    cuda = torch.device(model.device).type == "cuda"
    code = torch.compile(
        model.score, dynamic=False, fullgraph=True, mode="reduce-overhead" if cuda else "default"
    )

    def score(x: Tensor, t: Tensor) -> Tensor:
        value: Tensor = code(x, t)
        return value.clone() if cuda else value  # the next call writes into the graph's memory

    return replace(model, score=score, compiled=True)


def batch_sizes(model: ScoreModel, batch_size: int) -> tuple[int, ...]:
    """The numbers of rows that a run gives a compiled network, rising."""
    return tuple(sorted({-(-batch_size // DRAIN), batch_size}))


@torch.no_grad()
def warm_up(model: ScoreModel, batch_size: int) -> None:
    """Compile now what a run with so many rows needs; without it, the first calls do. Where memory runs out, the run is to see.

    Raises:
        SolveError: There is no compiler, or it failed.
    """
    sde, device = model.sde, torch.device(model.device)
    for rows in batch_sizes(model, batch_size) if model.compiled else ():
        t = torch.full((rows,), sde.T, dtype=torch.float64, device=device)
        x = torch.zeros(rows, *model.shape, dtype=model.dtype, device=device)
        try:
            model.score(expand_as_batch(sde.sigma(t), x) * x, t)
        except Exception as error:
            if out_of_memory(error):
                return
            reason = str(error).splitlines()[0] if str(error) else repr(error)
            raise SolveError(
                f"the network of {model.name} cannot be compiled: {reason}",
                hint="sample without compiling; on CPUs torch.compile needs a C++ compiler",
            ) from error
