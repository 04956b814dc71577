"""Callbacks of a run: progress, remarks, warnings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from ggf_cli.progress import reporter

if TYPE_CHECKING:
    from ggf_cli.results import Progress

ProgressCallback = Callable[["Progress"], None]


class RunObserver:
    """Callbacks of a run. The methods of this class do nothing; override those that you need."""

    def note(self, text: str) -> None:
        """A remark on the run, one sentence, such as the number of samples that are resumed."""

    def warn(self, text: str) -> None:
        """A warning, one sentence, to be shown even if remarks are not."""

    def out_of_memory(self, before: int, batch_size: int) -> None:
        """Memory ran out; the run continues with a smaller batch size.

        Args:
            before: The batch size at which memory ran out.
            batch_size: The batch size from now on.
        """
        self.warn(f"out of memory at batch size {before}: continuing with {batch_size}")

    def busy(self, activity: str) -> AbstractContextManager[None]:
        """A context around work before sampling, such as the compilation of the network."""
        return nullcontext()

    def sampling(
        self, num_samples: int, expected_nfe: int | None
    ) -> AbstractContextManager[ProgressCallback]:
        """A context around sampling. It yields the function to call after every engine tick.

        Args:
            num_samples: Samples of the run, including those that earlier launches finished.
            expected_nfe: Evaluations of a sample; None if they are not known beforehand.
        """
        return nullcontext(lambda progress: None)


class ProgressObserver(RunObserver):
    """Show a progress bar on stderr, or a line every 10 seconds if it is no terminal."""

    def sampling(
        self, num_samples: int, expected_nfe: int | None
    ) -> AbstractContextManager[ProgressCallback]:
        return reporter(num_samples, expected_nfe)
