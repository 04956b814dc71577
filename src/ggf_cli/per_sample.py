"""Values of samples: one entry, such as a class label or a start state, for each sample index.

An entry is a function of the sample index, so it follows its sample through any batch, order,
resumed run or worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.files import sha256_of
from ggf_cli.scalars import as_int, shown


@dataclass(frozen=True, kw_only=True)
class PerSample:
    """The entries of all samples.

    Attributes:
        name: The argument that they were given as, for messages: "conditions".
        function: Sample indices (B,) int64 -> entries (B, ...), on the device of the indices.
        description: A text for logs, which differs between different entries where possible.
        count: The number of samples that have an entry, indices 0 .. count - 1; None: all.
        labels: The smallest and the largest entry, if the entries are known whole numbers.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    description: str
    count: int | None = None
    labels: tuple[int, int] | None = None

    def checked(self, classes: int, model: str) -> PerSample:
        """The entries, if known labels are among those of a model with so many classes; 0: any.

        Raises:
            UsageError: A label is out of range.
        """
        if classes and self.labels and not 0 <= self.labels[0] <= self.labels[1] < classes:
            wrong = self.labels[0] if self.labels[0] < 0 else self.labels[1]
            raise UsageError(
                f"{wrong} is not a class label of {model}, which has {classes} classes",
                hint=f"labels lie in 0..{classes - 1}",
            )
        return self

    def __call__(self, index: Tensor) -> Tensor:
        """The entries (B, ...) of the sample indices (B,) int64.

        Raises:
            UsageError: The function returned something else.
        """
        found = self.function(index)
        if not isinstance(found, Tensor) or len(found) != len(index):
            raise UsageError(
                f"the {self.name} of {len(index)} samples are {shown(found)}",
                hint="a function of indices (B,) must return a tensor (B, ...)",
            )
        return found

    def first(self, rows: int, device: torch.device | str) -> Tensor:
        """The entries of the first samples, repeated if there are fewer than `rows`."""
        return self(torch.arange(rows, device=device) % (self.count or rows))

    def check(self, indices: Iterable[int]) -> None:
        """Check that sample indices have an entry.

        Raises:
            UsageError: One has none.
        """
        largest = max(indices, default=0)
        if self.count is not None and largest >= self.count:
            few = f"there are {self.count}, for 0..{self.count - 1}"
            raise UsageError(f"sample {largest} has no entry in {self.name}: {few}")


PerSampleLike = Tensor | Sequence[int] | Callable[[Tensor], Tensor] | PerSample


def as_per_sample(value: PerSampleLike, name: str) -> PerSample:
    """Make entries from a tensor or list, whose entry i belongs to sample i, or a function.

    Args:
        value: A tensor (N, ...), a list of N class labels, or a function of the sample indices.
        name: The name of the argument, for messages.

    Raises:
        UsageError: The value is none of these.
    """
    if isinstance(value, PerSample):
        return value
    if isinstance(value, Sequence):
        value = torch.tensor([as_int(label, f"an entry of {name}") for label in value])
    if isinstance(value, Tensor):
        if value.dim() == 0 or len(value) == 0:
            raise UsageError(f"{name} is {shown(value)}, it must have an entry for each sample")
        entries = value.detach().cpu().contiguous()
        digest = sha256_of(entries.view(torch.uint8).numpy().tobytes())
        shape = "x".join(map(str, entries.shape))
        return PerSample(
            name=name,
            function=_entries_of(entries),
            description=f"{shape} {entries.dtype} sha256 {digest[:16]}".replace("torch.", ""),
            count=len(entries),
            labels=_range_of(entries),
        )
    if callable(value):
        function = getattr(value, "__qualname__", type(value).__name__)
        return PerSample(name=name, function=value, description=f"function {function}")
    raise UsageError(
        f"{name} is {shown(value)}, it must be a tensor, a list of labels, or a function"
    )


def repeated_labels(labels: Sequence[int], text: str) -> PerSample:
    """Class labels that repeat: sample i has labels[i mod len(labels)]. `text` names them."""
    entry_of = _entries_of(torch.tensor(labels, dtype=torch.int64))
    return PerSample(
        name="conditions",
        function=lambda index: entry_of(index % len(labels)),
        description=f"labels {text}",
        labels=(min(labels), max(labels)) if labels else None,
    )


def _range_of(entries: Tensor) -> tuple[int, int] | None:
    """The smallest and the largest entry of one whole number for each sample; else None."""
    if entries.dim() != 1 or entries.dtype.is_floating_point or entries.dtype.is_complex:
        return None
    return int(entries.min()), int(entries.max())


def _entries_of(entries: Tensor) -> Callable[[Tensor], Tensor]:
    """A function from indices to entries of a tensor, which is copied to each device once."""
    by_device: dict[torch.device, Tensor] = {}

    def function(index: Tensor) -> Tensor:
        return by_device.setdefault(index.device, entries.to(index.device))[index]

    return function
