"""Measure what would make convolutions in float32 faster on a CPU: packed weights, Winograd.

    python benchmarks/convolutions.py [--network NAME --checkout FOLDER [--batch N]]

Without a network: single convolutions, in milliseconds. With one, a key of references.REFERENCES:
the time of ggf, and of ggf with packed weights, divided by that of the original. Packing uses an
operation of torch that is not public.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks import loaded, modules_in, ours_of, theirs_of
from references import REFERENCES

# Images, channels of input and output, height.
SHAPES = [
    (1, 256, 256, 32),
    (1, 256, 256, 16),
    (1, 768, 768, 8),
    (8, 256, 256, 32),
    (8, 512, 256, 8),
]
RUNS = 15


class Packed(nn.Module):
    """A convolution whose weights are packed for oneDNN in its first call."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution
        self.weight: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        c = self.convolution
        how = (list(c.padding), list(c.stride), list(c.dilation), c.groups)
        if self.weight is None:
            dense = c.weight.contiguous().to_mkldnn()
            self.weight = torch._C._nn.mkldnn_reorder_conv2d_weight(dense, *how, list(x.shape))
        operation = torch.ops.mkldnn._convolution_pointwise
        return operation(x, self.weight, c.bias, *how, "none", [], "")


def pack(network: nn.Module) -> None:
    """Replace all convolutions of a network by `Packed` ones."""
    for name, child in list(network.named_children()):
        if type(child) is nn.Conv2d and child.groups == 1:
            setattr(network, name, Packed(child))
        else:
            pack(child)


def milliseconds(call: Callable[[], object]) -> float:
    """The median time of a call."""
    call()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * median(times)


def measure_convolutions() -> None:
    """Print a row for each shape."""
    print("images, channels, height: channels first, last, packed, products of Winograd F(2x2)")
    for batch, inputs, outputs, height in SHAPES:
        x = torch.randn(batch, inputs, height, height)
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        weight, bias = convolution.weight, convolution.bias
        last = x.to(memory_format=torch.channels_last)
        weight_last = weight.to(memory_format=torch.channels_last)
        packed = Packed(convolution)
        tiles = torch.randn(16, batch * (height // 2) ** 2, inputs)
        kernels = torch.randn(16, inputs, outputs)
        ways: list[Callable[[], object]] = [
            lambda x=x, w=weight, b=bias: F.conv2d(x, w, b, padding=1),
            lambda x=last, w=weight_last, b=bias: F.conv2d(x, w, b, padding=1),
            lambda x=last, packed=packed: packed(x),
            lambda tiles=tiles, kernels=kernels: torch.bmm(tiles, kernels),
        ]
        times = [f"{milliseconds(way):.2f}" for way in ways]
        print(f"{batch}, {inputs} -> {outputs}, {height}:", *times)


def measure_network(name: str, checkout: str, batch: int, repeats: int = 7) -> None:
    """Print the ratios of a network, with and without packed weights."""
    reference = REFERENCES[name]
    module = reference.build(checkout)
    with tempfile.TemporaryDirectory() as folder:
        path = reference.write(module, Path(folder) / "model.safetensors")
        plain, packed = ours_of(name, path), loaded(name, path)
    network = next(modules_in(packed.score))
    pack(network)
    classes = [torch.zeros(batch, dtype=torch.int64)] if reference.classes else []
    x = torch.randn(batch, *reference.shape)
    label = torch.full((batch,), reference.labels[-1])
    theirs = theirs_of(name, module)
    ways: dict[str, Callable[[], object]] = {
        "original": lambda: theirs(x, label),
        "ggf": lambda: plain(x, label),
        "ggf, packed": lambda: network(x, label.double(), *classes),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(repeats + 1):
        for way, call in ways.items():
            start = time.perf_counter()
            call()
            if repeat:
                times[way].append(time.perf_counter() - start)
    for way in ("ggf", "ggf, packed"):
        ratio = median(o / t for o, t in zip(times[way], times["original"], strict=True))
        print(f"{name}, batch {batch}: {way} / original = {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=REFERENCES)
    parser.add_argument("--checkout", help="of the program of the network")
    parser.add_argument("--batch", type=int, default=1)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    if args.network:
        measure_network(args.network, args.checkout, args.batch)
    else:
        measure_convolutions()


if __name__ == "__main__":
    main()
