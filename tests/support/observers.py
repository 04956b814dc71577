"""Observers of runs for tests."""

from contextlib import nullcontext

import ggf_cli


class Recorder(ggf_cli.RunObserver):
    """Keep the notes of a run."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


class Interrupt(ggf_cli.RunObserver):
    """Interrupt the run after some samples have finished."""

    def __init__(self, after):
        self.after = after

    def sampling(self, num_samples, expected_nfe):
        def report(progress):
            if progress.finished >= self.after:
                raise KeyboardInterrupt

        return nullcontext(report)
