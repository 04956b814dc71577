"""Images per second of a whole job, beside diffusers' samplers with the same weights.

diffusers' loops are those of its pipelines (ScoreSdeVePipeline, DDPMPipeline, DDIMPipeline):
scheduler and network, without the progress bar. Loops of equal steps are timed over some of their
steps. `ggf compare` measures the quality of the samples of ggf; docs/reference/performance.md has
both.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ggf_cli import load_model
from ggf_cli.comparison.lineup import parse_contender
from ggf_cli.engine import Engine
from ggf_cli.runtime.precision import in_precision
from ggf_cli.score import ScoreModel
from ggf_cli.solvers import make_solver
from measure import Row, Skipped, interleaved

BATCH = 64
# Steps that are timed of a loop of equal steps.
TIMED = 10
SETTINGS = ("adaptive-multistep", "dpmpp-2m-sde:steps=20", "dpmpp-2m-sde:steps=74")


@dataclass(frozen=True)
class Loop:
    """A sampler of diffusers; `run` takes `timed` of its `steps` steps."""

    name: str
    steps: int
    timed: int
    run: Callable[[], Any]


def measure(runs: int) -> Iterator[Row | Skipped]:
    """Yield all rows."""
    try:
        import diffusers
    except ImportError as error:
        yield Skipped(what="whole jobs beside diffusers", why=str(error))
        return
    diffusers.utils.logging.set_verbosity_error()
    for name, loops in (("fashion-vp", vp_loops), ("fashion-ve", ve_loops)):
        model = in_precision(load_model(name, device="cpu"), "auto")
        for loop in loops(diffusers, model):
            yield from beside(model, loop, runs)


def beside(model: ScoreModel, loop: Loop, runs: int) -> Iterator[Row]:
    """Time each of our settings and the loop, in seconds an image."""
    functions: dict[str, Callable[[], Any]] = {
        setting: _job(model, setting) for setting in SETTINGS
    }
    seconds = interleaved(functions | {"theirs": loop.run}, runs)
    theirs = [s * loop.steps / loop.timed / BATCH for s in seconds["theirs"]]
    note = f"{loop.timed} of {loop.steps} steps timed, {model.precision}, batch {BATCH}"
    for setting in SETTINGS:
        ours = [s / (2 * BATCH) for s in seconds[setting]]
        yield Row(
            suite="job",
            what=f"{model.name}, {setting} beside {loop.name}",
            unit="s an image",
            ours=ours,
            theirs=theirs,
            note=note,
        )


def _job(model: ScoreModel, setting: str) -> Callable[[], Any]:
    contender = parse_contender(setting)

    def draw() -> None:
        engine = Engine(model, make_solver(contender.solver, contender.given), batch_size=BATCH)
        list(engine.run(range(2 * BATCH)))

    return draw


def vp_loops(diffusers: Any, model: ScoreModel) -> Iterator[Loop]:
    """Yield samplers of the VP SDE, with the noise prediction at diffusers' integer labels."""
    x = torch.randn(BATCH, *model.shape)

    def noise(x: Tensor, label: Tensor) -> Tensor:
        t = torch.full((len(x),), float(label) / 999, dtype=torch.float64).clamp(
            min=model.sde.t_eps
        )
        return -model.score(x, t) * model.sde.sigma(t).to(x)[:, None, None, None]

    betas = {
        "num_train_timesteps": 1000,
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "beta_schedule": "linear",
    }
    for name, kind, steps, timed in (
        ("DDPM, 1000 steps", diffusers.DDPMScheduler, 1000, TIMED),
        ("DDIM, 50 steps", diffusers.DDIMScheduler, 50, TIMED),
        ("DPM-Solver++, 20 steps", diffusers.DPMSolverMultistepScheduler, 20, 20),
    ):
        scheduler = kind(**betas)

        def run(scheduler: Any = scheduler, steps: int = steps, timed: int = timed) -> None:
            scheduler.set_timesteps(steps)
            state = x
            for label in scheduler.timesteps[:timed]:
                state = scheduler.step(noise(state, label), label, state).prev_sample

        yield Loop(name, steps, timed, run)


def ve_loops(diffusers: Any, model: ScoreModel) -> Iterator[Loop]:
    """Yield the sampler of the VE SDE: predictor and corrector as in ScoreSdeVePipeline."""
    sde = model.sde
    steps = 2000
    scheduler = diffusers.ScoreSdeVeScheduler(
        num_train_timesteps=steps, snr=0.15, sigma_min=sde.sigma_min, sigma_max=sde.sigma_max
    )
    x = torch.randn(BATCH, *model.shape) * sde.sigma_max

    def run() -> None:
        scheduler.set_timesteps(steps)
        scheduler.set_sigmas(steps)
        state = x
        for t in scheduler.timesteps[:TIMED]:
            times = t.double().expand(BATCH)
            state = scheduler.step_correct(model.score(state, times), state).prev_sample
            state = scheduler.step_pred(model.score(state, times), t, state).prev_sample

    yield Loop("ScoreSdeVe, 2000 x (1 + 1 corrector) evaluations", steps, TIMED, run)
