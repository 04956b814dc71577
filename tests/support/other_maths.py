"""Change the rounding of torch's functions as on another machine: `pytest --other-maths`.

IEEE 754 defines how sums, products and quotients round, but not how exp, log, sin or a matrix
product round: their last bits depend on the processor. A test that compares with recorded numbers
must pass on every machine. This mode tests that on one machine:

- elementary functions, in float32 and float64, are moved by one unit in the last place, up, down or
  not at all, depending on their value;
- matrix products, convolutions and normalisations in float32 are computed in float64 and rounded,
  which differs from every order of summation; in float64, products are moved like elementary
  functions, sums are not, since many add exactly;
- torch's square root and normal random numbers are moved too.

The result still depends only on the arguments, so that tests of invariance pass. The mode changes
the process of the tests, not the processes that it starts. torch.compile does not work in it
(tests/core/test_compilation.py). The tests take several times as long.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

ELEMENTARY = {
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
    "tanh",
    "sigmoid",
    "silu",
    "gelu",
    "erf",
    "erfc",
    "erfinv",
    "pow",
    "sqrt",
    "rsqrt",
    "softplus",
    "logit",
    "randn",
    "normal",
    "normal_functional",
}
SUMS = {
    "mm",
    "bmm",
    "addmm",
    "baddbmm",
    "convolution",
    "native_group_norm",
    "native_layer_norm",
    "_softmax",
    "_log_softmax",
    "logsumexp",
    "sum",
    "mean",
    "var",
    "std",
    "linalg_vector_norm",
    "cumsum",
    "_scaled_dot_product_flash_attention_for_cpu",
}


# A test may patch these names in torch.
SINGLE, DOUBLE = torch.float32, torch.float64


class OtherMaths(TorchDispatchMode):
    """While active, move the results that IEEE 754 does not define."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        plain = name.removesuffix("_")
        if plain in SUMS and _dtype(args) == SINGLE:
            result = func(*tree_map(_double, args), **tree_map(_double, kwargs))
            return tree_map(_single, result)
        result = func(*args, **kwargs)
        if plain in ELEMENTARY | SUMS - {"sum", "mean"}:
            if name.endswith("_"):
                result.copy_(_moved(result))
                return result
            return tree_map(_moved, result)
        return result


def _dtype(args: Any) -> torch.dtype | None:
    return next((a.dtype for a in args if isinstance(a, Tensor)), None)


def _double(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype == SINGLE:
        return value.to(DOUBLE)
    return DOUBLE if value is SINGLE else value


def _single(value: Any) -> Any:
    return value.to(SINGLE) if isinstance(value, Tensor) and value.dtype == DOUBLE else value


def _moved(value: Any) -> Any:
    """Each number, or its neighbour above or below, chosen by the bits of the number."""
    kinds = {SINGLE: torch.int32, DOUBLE: torch.int64}
    if not isinstance(value, Tensor) or value.dtype not in kinds or value.device.type == "meta":
        return value
    bits = value.contiguous().view(kinds[value.dtype])
    # One of -1, 0, 1.
    choice = ((bits ^ (bits >> 7)) * 40503) % 3 - 1
    moved = (bits + choice).view(value.dtype)
    # 0, 1 and non-finite numbers are exact on every machine.
    exact = (value == 0) | (value == 1) | ~value.isfinite()
    return torch.where(exact, value, moved)
