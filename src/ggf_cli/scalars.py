"""Convert arguments to Python numbers, and check their range, where they enter the package.

Accepted are Python numbers, scalars of NumPy and torch, and arrays and tensors without dimensions,
on any device. Everything else is refused: a bool is not a number, a float is not a whole number
(3.0 is not either), text is not a number, and an array of one item is not a scalar.

This module imports neither NumPy nor torch.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from numbers import Real
from typing import Any

from ggf_cli.errors import UsageError

# The largest seed and the largest sample index.
MAX_INT = 2**63 - 1
# The largest number of elements of a sample.
MAX_SIZE = 2**30


def as_int(
    value: Any, name: str, *, above: float = -math.inf, low: float = 0, high: float = MAX_INT
) -> int:
    """Convert a whole number to a Python int.

    Args:
        value: The value to convert.
        name: The name of the argument, for the message.
        above: Exclusive lower bound.
        low: Inclusive lower bound.
        high: Inclusive upper bound.

    Raises:
        UsageError: Not a whole number, or out of bounds.
    """
    plain = _plain(value)
    # Arrays have __index__ too: torch would take the one item out of a tensor.
    if not isinstance(plain, bool) and not hasattr(plain, "ndim"):
        with suppress(TypeError):
            number = operator.index(plain)
            if above < number and low <= number <= high:
                return number
    raise _refused(value, name, "a whole number (an int)", above, low, high)


def as_float(
    value: Any,
    name: str,
    *,
    above: float = -math.inf,
    low: float = -math.inf,
    high: float = math.inf,
    finite: bool = True,
) -> float:
    """Convert a real number to a Python float, exactly: float32 0.1 is 0.10000000149011612.

    Args:
        value: The value to convert.
        name: The name of the argument, for the message.
        above: Exclusive lower bound.
        low: Inclusive lower bound.
        high: Inclusive upper bound.
        finite: Whether infinity is refused; NaN always is.

    Raises:
        UsageError: Not a real number, or out of bounds.
    """
    plain = _plain(value)
    if not isinstance(plain, bool) and isinstance(plain, Real):
        try:
            number = float(plain)
        except OverflowError:
            # An int that is larger than the largest float.
            number = math.nan
        if above < number and low <= number <= high and not (finite and math.isinf(number)):
            return number
    raise _refused(value, name, "a finite number" if finite else "a number", above, low, high)


def as_bool(value: Any, name: str) -> bool:
    """Convert a truth value to a Python bool; 0 and 1 are refused.

    Raises:
        UsageError: Not a bool.
    """
    plain = _plain(value)
    if isinstance(plain, bool):
        return plain
    raise UsageError(f"{name} is {shown(value)}, it must be true or false")


def as_indices(indices: Any) -> Sequence[int] | Iterator[int]:
    """Convert sample indices, each in 0..2^63 - 1, to Python ints.

    Args:
        indices: A number n, which means 0..n - 1; or whole numbers: a list, a range, an array or
            tensor of one dimension, an iterator.

    Returns:
        A checked sequence. For an iterator, which may be endless: an iterator that checks each
        index when it is drawn.

    Raises:
        UsageError: Not indices, or one out of range.
    """
    if isinstance(indices, range):
        for end in (indices[0], indices[-1]) if indices else ():
            as_index(end)
        return indices
    if not isinstance(indices, Iterable) or getattr(indices, "ndim", None) == 0:
        return range(as_int(indices, "the number of samples"))
    name = "the sample indices"
    if hasattr(indices, "ndim"):
        indices = items(indices, name)
    if isinstance(indices, str | bytes | bytearray):
        raise UsageError(f"{name} are {shown(indices)}, they must be whole numbers")
    if isinstance(indices, Collection):
        return [as_index(index) for index in indices]
    return map(as_index, indices)


def as_index(index: Any) -> int:
    """Convert a sample index to a Python int.

    Raises:
        UsageError: Not in 0..2^63 - 1.
    """
    if type(index) is int and 0 <= index <= MAX_INT:
        return index
    return as_int(index, "a sample index")


def items(values: Any, name: str) -> list[Any]:
    """List the items of a sequence, or of an array or tensor of one dimension.

    Raises:
        UsageError: `values` is none of these.
    """
    found: list[Any] | None = None
    if hasattr(values, "ndim"):
        found = _listed(values) if values.ndim == 1 else None
    elif isinstance(values, Sequence) and not isinstance(values, str | bytes | bytearray):
        found = list(values)
    if found is None:
        raise UsageError(f"{name}: {shown(values)} is no list of numbers")
    return found


def as_shape(shape: Any) -> tuple[int, ...]:
    """Convert the shape of a sample to a tuple of Python ints; 1 to 2^30 elements.

    Args:
        shape: Whole numbers of any type: a tuple, a list, a torch.Size, an array.

    Raises:
        UsageError: Not a shape, or too many elements.
    """
    name = "the shape of a sample"
    try:
        sizes = tuple(as_int(size, name, low=1) for size in items(shape, name))
    except UsageError:
        sizes = ()
    if not sizes or math.prod(sizes) > MAX_SIZE:
        raise UsageError(
            f"{name} is {shown(shape)}, it must be a tuple of whole numbers >= 1"
            " with a product <= 2^30",
            hint="like (3, 32, 32)",
        )
    return sizes


def shown(value: Any) -> str:
    """Format a value for a message: its repr on one line, shortened to 60 characters."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001 - an int of thousands of digits has no repr, for one
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}…"


def _plain(value: Any) -> Any:
    """Unwrap an array without dimensions; return any other value unchanged."""
    return _listed(value) if getattr(value, "ndim", None) == 0 else value


def _listed(array: Any) -> Any:
    """Convert an array or tensor to Python numbers; None if it holds no numbers.

    Uses `tolist`, because `item` converts a masked number to 0.
    """
    # Dates, which `tolist` converts to ints.
    if getattr(getattr(array, "dtype", None), "kind", "") in ("m", "M"):
        return None
    try:
        return array.tolist()
    except (AttributeError, RuntimeError):
        # RuntimeError: a tensor on the device "meta".
        return None


def _refused(value: Any, name: str, kind: str, above: float, low: float, high: float) -> UsageError:
    bounds = (("> ", above), (">= ", low), ("<= ", high))
    limits = [sign + _limit(bound) for sign, bound in bounds if math.isfinite(bound)]
    return UsageError(f"{name} is {shown(value)}, it must be {' and '.join([kind, *limits])}")


def _limit(bound: float) -> str:
    if bound == MAX_INT:
        return "2^63 - 1"
    return f"{bound:g}" if isinstance(bound, float) else str(bound)
