"""The exceptions of the package: every expected failure is a `GGFError`.

A `GGFError` has a message (what, which value, where), one hint (a command or a change that helps)
and the exit code of the command line. Nothing below the command line prints or exits.
"""

from __future__ import annotations

from collections.abc import Iterable


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
    """A value that the caller passed is not usable."""

    exit_code = 2


class OptionError(UsageError):
    """An option has a value that is not usable, or the solver has no such option.

    Message and hint spell options as Python does ("eps_rel"); the command line turns them into
    flags.

    Args:
        message: What is wrong, with the offending value, in one sentence.
        option: The option's name in Python.
        others: Other options that message or hint name.
        hint: One change that helps.

    Attributes:
        option: The option's name in Python.
        options: All options that message or hint name, `option` first.
    """

    def __init__(
        self, message: str, *, option: str, others: Iterable[str] = (), hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.option = option
        self.options = (option, *others)


class ConfigError(UsageError):
    """`checkpoints.toml` has an entry that is not valid."""


class CheckpointError(GGFError):
    """A checkpoint is missing, corrupt, altered or of an unsupported kind."""

    exit_code = 3


class SolveError(GGFError):
    """Samples did not finish: not finite, out of evaluations, or out of memory."""

    exit_code = 4


class OutputError(GGFError):
    """A result could not be written, or its file has changed since it was written."""

    exit_code = 5


class JobError(GGFError):
    """The other processes of a distributed job cannot be reached."""


class AssumptionWarning(UserWarning):
    """A checkpoint does not state a setting that its samples depend on; a default was assumed."""


class EvalModeWarning(UserWarning):
    """A network of the user was in training mode; it was put into eval mode."""


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its repr if it has no message."""
    return str(error).splitlines()[0] if str(error) else repr(error)
