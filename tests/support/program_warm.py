"""Import what `ggf` needs and draw one sample, in the forkserver of `program`, before it forks."""

import tempfile
from pathlib import Path

import torch

from ggf_cli.checkpoints.load import load_model
from ggf_cli.cli import app, model, observer  # noqa: F401
from ggf_cli.runs import execute, journal, load, plan, run_log, workers, writer  # noqa: F401
from ggf_cli.runs.folder import OutputFolder
from ggf_cli.sampling import sample

torch.set_num_threads(1)
sample(load_model("mixture"), 1, eps_rel=1.0)
with tempfile.TemporaryDirectory() as folder:
    OutputFolder(Path(folder)).release()
