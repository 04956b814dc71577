"""How large a network a configuration may ask for: it comes from a file, and building one takes time for each layer."""

from __future__ import annotations

from typing import Any

from ggf_cli.errors import CheckpointError

MAX_LEVELS = 16  # the published ones have up to 8
MAX_BLOCKS = 32  # per level; the published ones have up to 8
MAX_WIDTH = 2**20  # channels


def check_size(channels: tuple[Any, ...], blocks: Any, patch: Any) -> None:
    """Refuse what no network has.

    Args:
        channels: Width of each level.
        blocks: Residual blocks per level.
        patch: Pixels, across, that one pixel of the network stands for.

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
