"""The seconds that downloads wait for a slow server: GGF_DOWNLOAD_PATIENCE."""

from __future__ import annotations

import os
from contextlib import suppress

from ggf_cli.errors import UsageError

# Environment variable: the seconds to wait.
PATIENCE = "GGF_DOWNLOAD_PATIENCE"
PATIENCE_S = 30.0
# Seconds for a connection, with this patience.
CONNECT_S = 3.0


def patience() -> float:
    """The seconds to wait: GGF_DOWNLOAD_PATIENCE, or 30.

    Raises:
        UsageError: GGF_DOWNLOAD_PATIENCE is not a number of seconds.
    """
    text = os.environ.get(PATIENCE) or str(PATIENCE_S)
    with suppress(ValueError):
        if (seconds := float(text)) > 0:
            return seconds
    raise UsageError(f"{PATIENCE} is {text!r}, it must be a number of seconds, or inf")


def connect_s() -> float:
    """The seconds to wait for a connection: 3, and more if the patience is longer than 30 s."""
    return CONNECT_S * max(1.0, patience() / PATIENCE_S)
