"""Show the remarks and the progress of a run on stderr."""

from __future__ import annotations

from contextlib import AbstractContextManager

from ggf_cli.cli import console
from ggf_cli.progress import reporter
from ggf_cli.runs.observer import ProgressCallback, RunObserver


class ConsoleObserver(RunObserver):
    """Print remarks, show a spinner for long preparations and a progress bar while sampling.

    Args:
        quiet: Print warnings only.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def note(self, text: str) -> None:
        if not self._quiet:
            console.note(text)

    def warn(self, text: str) -> None:
        console.note(text)

    def busy(self, activity: str) -> AbstractContextManager[None]:
        return console.busy(activity, quiet=self._quiet)

    def sampling(
        self, num_samples: int, expected_nfe: int | None
    ) -> AbstractContextManager[ProgressCallback]:
        return reporter(num_samples, expected_nfe, quiet=self._quiet)
