"""Measure what would make convolutions in float32 faster on a CPU: packed weights, Winograd.

    python benchmarks/convolutions.py [--network NAME --checkout FOLDER [--batch N]]

Without a network: single convolutions, in milliseconds. With one, a key of references.REFERENCES:
the time of ggf, and of ggf with packed weights, divided by that of the original. Packing uses an
operation of torch that is not public.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from measure import interleaved
from networks import network_of, ours_of, theirs_of
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
        ways: dict[str, Callable[[], object]] = {
            "first": partial(F.conv2d, x, weight, bias, padding=1),
            "last": partial(F.conv2d, last, weight_last, bias, padding=1),
            "packed": partial(packed, last),
            "products": partial(torch.bmm, tiles, kernels),
        }
        times = [f"{1000 * median(t):.2f}" for t in interleaved(ways, RUNS).values()]
        print(f"{batch}, {inputs} -> {outputs}, {height}:", *times)


def measure_network(name: str, checkout: str, batch: int, repeats: int = 7) -> None:
    """Print the ratios of a network, with and without packed weights."""
    reference = REFERENCES[name]
    module = reference.build(checkout)
    with tempfile.TemporaryDirectory() as folder:
        path = reference.write(module, Path(folder) / "model.safetensors")
        plain, packed = network_of(name, path), network_of(name, path)
    pack(packed)
    x = torch.randn(batch, *reference.shape)
    label = torch.full((batch,), reference.labels[-1])
    ways = {
        "original": theirs_of(name, module),
        "ggf": ours_of(name, plain),
        "ggf, packed": ours_of(name, packed),
    }
    times = interleaved({way: partial(call, x, label) for way, call in ways.items()}, repeats)
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
