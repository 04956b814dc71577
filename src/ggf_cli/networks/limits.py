"""Limits on the size of a network, whose configuration comes from an untrusted file."""

from __future__ import annotations

from typing import Any

from ggf_cli.errors import CheckpointError

# Published networks have up to 8 levels, and up to 8 blocks per level.
MAX_LEVELS = 16
MAX_BLOCKS = 32
MAX_WIDTH = 2**20


def check_size(channels: tuple[Any, ...], blocks: Any, patch: Any) -> None:
    """Check the size of a network.

    Args:
        channels: Width of each level.
        blocks: Residual blocks per level.
        patch: Side of the square of pixels that is one pixel of the network.

    Raises:
        CheckpointError: Not whole numbers, or too large.
    """
    if not 1 <= len(channels) <= MAX_LEVELS:
        raise CheckpointError(
            f"a network of {len(channels)} levels is not supported, only 1 to {MAX_LEVELS}"
        )
    for what, value, most in (
        *(("width", width, MAX_WIDTH) for width in channels),
        ("number of blocks", blocks, MAX_BLOCKS),
        ("patch", patch, MAX_WIDTH),
    ):
        if type(value) is not int or not 1 <= value <= most:
            raise CheckpointError(
                f"a network with {what} {value!r:.40} is not supported, it must lie in 1..{most:,}"
            )


def check_count(what: str, value: Any) -> None:
    """Check the number of rows of a table, such as one of class embeddings; 0 is no table.

    Raises:
        CheckpointError: Not a whole number, or too large.
    """
    if type(value) is not int or not 0 <= value <= MAX_WIDTH:
        raise CheckpointError(
            f"a network with {value!r:.40} {what} is not supported, it must lie in 0..{MAX_WIDTH:,}"
        )
