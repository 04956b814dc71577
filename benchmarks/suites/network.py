"""One evaluation beside diffusers' UNet2DModel, and the effect of precision and compilation.

Both networks have the same weights.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ggf_cli import load_model
from ggf_cli.runtime.compilation import compiled
from ggf_cli.runtime.precision import in_precision
from ggf_cli.score import ScoreModel
from measure import Row, Skipped, interleaved
from references import REFERENCES

# {name: batch sizes}. Large batches of large images take minutes and gigabytes on a CPU;
# networks.py measures one image of every network.
PEERS = {"fashion": (1, 16, 64), "cifar10-ddpm": (1, 16, 64), "church": (1,)}
# The others take many minutes to compile.
COMPILED = ("fashion", "cifar10-ddpm")
# Size of the matrices whose product is the upper bound of the rate.
SIDE = 2048
EMBEDDED = ("fashion-vp", "fashion-ve")


def measure(runs: int) -> Iterator[Row | Skipped]:
    """Yield all rows."""
    try:
        import diffusers  # noqa: F401
    except ImportError as error:
        yield Skipped(what="networks beside diffusers", why=str(error))
    else:
        for name, sizes in PEERS.items():
            yield from beside_diffusers(name, sizes, runs)
    others = [name for name, reference in REFERENCES.items() if reference.source != "diffusers"]
    yield Skipped(
        what=", ".join(others), why="use python benchmarks/networks.py --checkout PROGRAM=FOLDER"
    )
    for name in EMBEDDED:
        yield from in_every_way(load_model(name, device="cpu"), runs)


def beside_diffusers(name: str, sizes: tuple[int, ...], runs: int) -> Iterator[Row]:
    """Compare with diffusers in float32, its default, and at equal precision; random weights."""
    reference = REFERENCES[name]
    module = reference.build(None)
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(
            reference.write(module, Path(folder) / "model.safetensors"), device="cpu"
        )
    brain = in_precision(model, "bf16")
    ways = {"float32": model.score, "bfloat16": brain.score}
    if name in COMPILED:
        ways["bfloat16, compiled"] = compiled(brain).score
    for batch in sizes:
        x = torch.randn(batch, *model.shape)
        t = torch.full((batch,), model.sde.T, dtype=torch.float64)
        label = torch.full((batch,), reference.labels[-1])
        theirs = _call(lambda x, label: reference.call(module, x, label), x, label)
        functions = {way: _call(score, x, t) for way, score in ways.items()}
        functions |= {"theirs": theirs, "theirs, bfloat16": lambda call=theirs: _autocast(call)}
        seconds = interleaved(functions, runs)
        for way in ways:
            what = f"{name}, {way}, beside diffusers' float32, batch {batch}"
            yield _row(what, seconds[way], seconds["theirs"])
        what = f"{name}, bfloat16, beside diffusers' bfloat16, batch {batch}"
        yield _row(what, seconds["bfloat16"], seconds["theirs, bfloat16"])


def _row(what: str, ours: list[float], theirs: list[float]) -> Row:
    return Row(suite="network", what=what, unit="s", ours=ours, theirs=theirs)


def _autocast(call: Callable[[], Tensor]) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return call()


def in_every_way(model: ScoreModel, runs: int, batch: int = 128) -> Iterator[Row]:
    """Time an embedded network in each precision, compiled or not, beside float32."""
    ways = {
        "float32": model,
        "bfloat16": in_precision(model, "bf16"),
        "float32, compiled": compiled(model),
        "bfloat16, compiled": compiled(in_precision(model, "bf16")),
    }
    generator = torch.Generator().manual_seed(0)
    t = torch.linspace(model.sde.T, model.sde.t_eps, batch, dtype=torch.float64)
    x = torch.randn(batch, *model.shape, generator=generator)
    x = x * model.sde.sigma(t).float()[:, None, None, None]
    exact = model.score(x, t)
    errors = {way: _error(way_model.score(x, t), exact) for way, way_model in ways.items()}
    seconds = interleaved({way: _call(m.score, x, t) for way, m in ways.items()} | products(), runs)
    yield from shares_of_the_limit(model, ways, seconds, operations(model, x, t))
    per_row = {way: [1000 * s / batch for s in seconds[way]] for way in ways}
    for way in list(ways)[1:]:
        note = (
            f"scores differ by {errors[way]:.1%} at most" if errors[way] > 1e-4 else "same scores"
        )
        what = f"{model.name}, {way}, beside float32, batch {batch}"
        yield Row(
            suite="network",
            what=what,
            unit="ms a row",
            ours=per_row[way],
            theirs=per_row["float32"],
            note=note,
        )


def products() -> dict[str, Callable[[], Tensor]]:
    """Return a matrix product in each type: the upper bound of the rate of a network."""
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    matrices = {name: torch.ones(SIDE, SIDE, dtype=kind) for name, kind in kinds.items()}
    return {f"product in {name}": (lambda m=m: m @ m) for name, m in matrices.items()}


def operations(model: ScoreModel, x: Tensor, t: Tensor) -> int:
    """Count the additions and multiplications in convolutions and linear layers."""
    with FlopCounterMode(display=False) as counter:
        model.score(x, t)
    return counter.get_total_flops()


def shares_of_the_limit(
    model: ScoreModel, ways: Iterable[str], seconds: dict[str, list[float]], flops: int
) -> Iterator[Row]:
    """Yield the rate of each way as a percentage of the rate of a product."""
    for way in ways:
        limits = [2 * SIDE**3 / s for s in seconds[f"product in {way.split(',')[0]}"]]
        rates = [flops / s for s in seconds[way]]
        shares = [100 * rate / limit for rate, limit in zip(rates, limits, strict=True)]
        limit = statistics.median(limits) / 1e9
        note = f"{flops / 1e9:.1f} GFLOP; products run at {limit:.0f} GFLOP/s"
        what = f"{model.name}, {way}: of the rate of a {SIDE} x {SIDE} product"
        yield Row(suite="network", what=what, unit="%", ours=shares, theirs=[], note=note)


def _call(network: Callable[..., Tensor], x: Tensor, t: Tensor) -> Callable[[], Tensor]:
    return lambda: network(x, t)


def _error(found: Tensor, exact: Tensor) -> float:
    """The largest relative error of a row."""
    return float(((found - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)).max())
