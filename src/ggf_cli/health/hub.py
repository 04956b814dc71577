"""Check that models can be downloaded."""

from __future__ import annotations

from time import perf_counter

from ggf_cli.checkpoints.fetch import reach
from ggf_cli.health import WARNING, Finding


def hub() -> Finding:
    """Send a request to the hub, and measure the time until it answers.

    Raises:
        CheckpointError: The hub cannot be reached.
    """
    from huggingface_hub import constants, get_token

    facts = {"host": constants.ENDPOINT.rpartition("@")[2], "token": get_token() is not None}
    token = "with a token" if facts["token"] else "without a token"
    if constants.HF_HUB_OFFLINE:
        return Finding(
            summary="not checked: HF_HUB_OFFLINE is set",
            facts={**facts, "seconds": None},
            status=WARNING,
            hint="unset HF_HUB_OFFLINE",
        )
    clock = perf_counter()
    reach(timeout_s=10)
    seconds = perf_counter() - clock
    summary = f"{facts['host']} answers in {seconds:.2f} s, {token}"
    return Finding(summary=summary, facts={**facts, "seconds": seconds})
