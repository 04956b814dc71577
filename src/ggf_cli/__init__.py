"""ggf: sample from score-based generative models. Every name is imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "load_model": "ggf_cli.checkpoints.load",
    "inspect_model": "ggf_cli.checkpoints.inspection",
    "Inspection": "ggf_cli.checkpoints.inspection",
    "certify": "ggf_cli.certification.certify",
    "Certificate": "ggf_cli.certification.documents",
    "compare": "ggf_cli.comparison.compare",
    "ComparisonObserver": "ggf_cli.comparison.observer",
    "ComparisonResult": "ggf_cli.comparison.compare",
    "run": "ggf_cli.runs.run",
    "RunObserver": "ggf_cli.runs.observer",
    "RunResult": "ggf_cli.runs.execute",
    "sample": "ggf_cli.sampling",
    "stream": "ggf_cli.sampling",
    "SampleResult": "ggf_cli.sampling",
    "FinishedSample": "ggf_cli.engine",
    "Outcome": "ggf_cli.engine",
    "Step": "ggf_cli.results",
    "Trajectory": "ggf_cli.results",
    "ScoreModel": "ggf_cli.score",
    "SDE": "ggf_cli.sde",
    "VESDE": "ggf_cli.sde",
    "VPSDE": "ggf_cli.sde",
    "SubVPSDE": "ggf_cli.sde",
    "CosineVPSDE": "ggf_cli.diffusions",
    "EDM": "ggf_cli.diffusions",
    "FlowMatching": "ggf_cli.diffusions",
    "GaussianDiffusion": "ggf_cli.custom_sde",
    "GGFError": "ggf_cli.errors",
    "EvalModeWarning": "ggf_cli.errors",
    "AssumptionWarning": "ggf_cli.errors",
}

if TYPE_CHECKING:
    from ggf_cli import solvers as solvers
    from ggf_cli.certification.certify import certify as certify
    from ggf_cli.certification.documents import Certificate as Certificate
    from ggf_cli.checkpoints.inspection import Inspection as Inspection
    from ggf_cli.checkpoints.inspection import inspect_model as inspect_model
    from ggf_cli.checkpoints.load import load_model as load_model
    from ggf_cli.comparison.compare import ComparisonResult as ComparisonResult
    from ggf_cli.comparison.compare import compare as compare
    from ggf_cli.comparison.observer import ComparisonObserver as ComparisonObserver
    from ggf_cli.custom_sde import GaussianDiffusion as GaussianDiffusion
    from ggf_cli.diffusions import EDM as EDM
    from ggf_cli.diffusions import CosineVPSDE as CosineVPSDE
    from ggf_cli.diffusions import FlowMatching as FlowMatching
    from ggf_cli.engine import FinishedSample as FinishedSample
    from ggf_cli.engine import Outcome as Outcome
    from ggf_cli.errors import AssumptionWarning as AssumptionWarning
    from ggf_cli.errors import EvalModeWarning as EvalModeWarning
    from ggf_cli.errors import GGFError as GGFError
    from ggf_cli.results import Step as Step
    from ggf_cli.results import Trajectory as Trajectory
    from ggf_cli.runs.execute import RunResult as RunResult
    from ggf_cli.runs.observer import RunObserver as RunObserver
    from ggf_cli.runs.run import run as run
    from ggf_cli.sampling import SampleResult as SampleResult
    from ggf_cli.sampling import sample as sample
    from ggf_cli.sampling import stream as stream
    from ggf_cli.score import ScoreModel as ScoreModel
    from ggf_cli.sde import SDE as SDE
    from ggf_cli.sde import VESDE as VESDE
    from ggf_cli.sde import VPSDE as VPSDE
    from ggf_cli.sde import SubVPSDE as SubVPSDE

__all__ = [
    "EDM",
    "SDE",
    "VESDE",
    "VPSDE",
    "AssumptionWarning",
    "Certificate",
    "ComparisonObserver",
    "ComparisonResult",
    "CosineVPSDE",
    "EvalModeWarning",
    "FinishedSample",
    "FlowMatching",
    "GGFError",
    "GaussianDiffusion",
    "Inspection",
    "Outcome",
    "RunObserver",
    "RunResult",
    "SampleResult",
    "ScoreModel",
    "Step",
    "SubVPSDE",
    "Trajectory",
    "__version__",
    "certify",
    "compare",
    "inspect_model",
    "load_model",
    "run",
    "sample",
    "solvers",
    "stream",
]


def __getattr__(name: str) -> Any:
    if name == "solvers":
        return importlib.import_module("ggf_cli.solvers")
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
