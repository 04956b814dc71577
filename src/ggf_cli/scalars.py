"""Convert numbers as people pass them to Python's own, once, where they enter the package.

Accepted are Python's numbers, NumPy's and torch's scalars, and arrays and tensors of no dimensions on any device. What is not a number
of the wanted kind is refused: a bool is no number, a float is no whole number (3.0 neither), a word is no number, one item is
not taken out of an array.

Nothing here imports NumPy or torch.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from numbers import Real
from typing import Any

from ggf_cli.errors import UsageError

MAX_INT = 2**63 - 1  # the largest seed, the largest sample index


def as_int(value: Any, name: str, *, above: float = -math.inf, low: float = 0, high: float = MAX_INT) -> int:  # fmt: skip
    """A whole number as Python's int.

    Args:
        value: What was passed.
        name: Of the argument, for the message.
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
    """A real number as Python's float: of a float32 0.1, its exact value 0.10000000149011612.

    Args:
        value: What was passed.
        name: Of the argument, for the message.
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
        except OverflowError:  # an int beyond all floats
            number = math.nan
        if above < number and low <= number <= high and not (finite and math.isinf(number)):
            return number
    raise _refused(value, name, "a finite number" if finite else "a number", above, low, high)


def as_bool(value: Any, name: str) -> bool:
    """True or False as Python's bool; 0 and 1 are neither.

    Raises:
        UsageError: Neither.
    """
    plain = _plain(value)
    if isinstance(plain, bool):
        return plain
    raise UsageError(f"{name} is {shown(value)}, it must be true or false")


def as_indices(indices: Any) -> Sequence[int] | Iterator[int]:
    """Sample indices, each in 0..2^63 - 1, as Python's ints.

    Args:
        indices: A count n, for 0..n - 1; or whole numbers: a list, a range, an array or tensor of one dimension, an iterator.

    Returns:
        A sequence, all of it checked; of an iterator, which may be endless, one that checks each index when it is taken.

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
    """A sample index as Python's int.

    Raises:
        UsageError: Not in 0..2^63 - 1.
    """
    if type(index) is int and 0 <= index <= MAX_INT:
        return index
    return as_int(index, "a sample index")


def items(values: Any, name: str) -> list[Any]:
    """The items of a sequence, an array or a tensor, of one dimension.

    Raises:
        UsageError: It is none.
    """
    found: list[Any] | None = None
    if hasattr(values, "ndim"):
        found = _listed(values) if values.ndim == 1 else None
    elif isinstance(values, Sequence) and not isinstance(values, str | bytes | bytearray):
        found = list(values)
    if found is None:
        raise UsageError(f"{name}: {shown(values)} is no list of numbers")
    return found


def shown(value: Any) -> str:
    """A value as messages show it: on one line, not too long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001 - an int of thousands of digits has no repr, for one
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}…"


def _plain(value: Any) -> Any:
    """What a scalar, or an array without dimensions, holds; anything else as it is."""
    return _listed(value) if getattr(value, "ndim", None) == 0 else value


def _listed(array: Any) -> Any:
    """The numbers of an array or tensor as Python has them; None of what holds none.

    By `tolist`, as `item` makes 0 of a masked number.
    """
    if getattr(getattr(array, "dtype", None), "kind", "") in ("m", "M"):  # dates, listed as ints
        return None
    try:
        return array.tolist()
    except (AttributeError, RuntimeError):  # RuntimeError: a tensor on the device "meta"
        return None


def _refused(value: Any, name: str, kind: str, above: float, low: float, high: float) -> UsageError:
    bounds = (("> ", above), (">= ", low), ("<= ", high))
    limits = [sign + _limit(bound) for sign, bound in bounds if math.isfinite(bound)]
    return UsageError(f"{name} is {shown(value)}, it must be {' and '.join([kind, *limits])}")


def _limit(bound: float) -> str:
    return "2^63 - 1" if bound == MAX_INT else f"{bound:g}" if isinstance(bound, float) else str(bound)  # fmt: skip
