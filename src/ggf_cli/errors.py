"""What can go wrong, as the user meets it.

Every expected failure is a `GGFError`: a message (what, which value, where), one hint (a command or a
change that helps) and the exit code of the command line. Nothing below the command line prints or exits.
"""

from __future__ import annotations


class GGFError(Exception):
    """An expected failure.

    Args:
        message: What is wrong, with the offending value and its place, in one sentence.
        hint: One command or one change that helps.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(GGFError):
    """A value the caller gave is not usable."""

    exit_code = 2


class ConfigError(UsageError):
    """`checkpoints.toml` does not say what it must say."""


class CheckpointError(GGFError):
    """A checkpoint is missing, corrupt, altered or of an unsupported kind."""

    exit_code = 3


class SolveError(GGFError):
    """Samples did not reach the end: not finite, or out of evaluations."""

    exit_code = 4


class OutputError(GGFError):
    """A result could not be written, or is no longer what was written."""

    exit_code = 5


class JobError(GGFError):
    """The other processes of a job cannot be reached."""


class AssumptionWarning(UserWarning):
    """A checkpoint does not state something that its samples depend on, and it was assumed."""
