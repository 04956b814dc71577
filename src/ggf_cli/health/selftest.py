"""Check the samples of a model with a known distribution, on the CPU and on the default device.

This tests engine, solver, noise and arithmetic together. The moments must be those of the
distribution, within random error: the squared error of the mean, divided by its expectation for as
many exact samples, is about 1, and the total variance is about that of the distribution. The
samples must also be those of the seed: the noise is bit-identical on every device, and the mean of
all numbers is recorded here.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

from ggf_cli.errors import SolveError
from ggf_cli.files import sha256_of
from ggf_cli.health import FAILED, OK, Finding

MODEL, SAMPLES, SEED, EPS_REL = "mixture", 32, 0, 0.1
# The mean of all numbers of all samples, on 2 CPU cores with torch 2.13.
MEAN = -0.4641
# A step that is accepted on one machine and rejected on another changes the mean by less than this;
# another seed changes it by 0.02.
MEAN_TOLERANCE = 0.005
NOISE_SHA256 = "52e9c9776f756eca6498989612b803dc085bebc28471ba91586c6d9715e95562"
MAX_MEAN_ERROR = 3.0
VARIANCE = (0.7, 1.3)


def selftest() -> Finding:
    """Sample on the CPU and on the device that `auto` selects.

    Raises:
        CheckpointError: The model is missing or damaged.
    """
    from ggf_cli.runtime.devices import resolve_device

    names = dict.fromkeys(["cpu", str(resolve_device("auto"))])
    runs = [_sample(name) for name in names]
    wrong = [f"{run['device']}: {problem}" for run in runs for problem in run["problems"]]
    good = [
        f"{run['samples']} samples on {run['device']} in {run['seconds']:.2f} s" for run in runs
    ]
    moments = (
        f"moments as in the exact distribution (mean error {runs[0]['mean_error']:.2f}, about 1"
        " expected)"
    )
    return Finding(
        summary="; ".join(wrong) or f"{', '.join(good)}, {moments}",
        facts={"runs": runs},
        status=FAILED if wrong else OK,
        hint="the samples of this installation are wrong: reinstall torch, or try --device cpu"
        if wrong
        else None,
        exit_code=SolveError.exit_code if wrong else 0,
    )


def _sample(device: str) -> dict[str, Any]:
    """Sample on a device; the statistics of the samples, and a list of problems."""
    import torch

    import ggf_cli

    model = ggf_cli.load_model(MODEL, device=device)
    solver = ggf_cli.solvers.Adaptive(eps_rel=EPS_REL)
    clock = perf_counter()
    stream = ggf_cli.stream(model, range(SAMPLES), solver=solver, seed=SEED, batch_size=SAMPLES)
    finished = list(stream)
    seconds = perf_counter() - clock
    x = torch.stack([sample.x for sample in finished]).flatten(1).cpu().double()
    mean, covariance = (moment.cpu().double() for moment in model.distribution.moments())
    total = covariance.trace()
    mean_error = float((x.mean(0) - mean).square().sum() / (total / SAMPLES))
    variance = float(x.var(0).sum() / total)
    value = float(x.mean())
    problems = []
    if lost := sum(sample.outcome is not ggf_cli.Outcome.DONE for sample in finished):
        problems.append(f"{lost} of {SAMPLES} samples did not reach the end")
    if _noise_sha256(device) != NOISE_SHA256:
        problems.append("the noise differs from the recorded noise, which all machines should have")
    if not mean_error < MAX_MEAN_ERROR:
        problems.append(f"the squared error of the mean is {mean_error:.2f} times the expected one")
    if not VARIANCE[0] < variance < VARIANCE[1]:
        problems.append(f"the variance is {variance:.2f} times the expected one")
    if not abs(value - MEAN) < MEAN_TOLERANCE:
        problems.append(f"the samples of seed {SEED} have the mean {value:.4f}, not {MEAN:.4f}")
    return {
        "device": device,
        "samples": SAMPLES,
        "seconds": seconds,
        "nfe": sum(sample.nfe for sample in finished),
        "mean_error": mean_error,
        "variance": variance,
        "mean": value,
        "problems": problems,
    }


def _noise_sha256(device: str) -> str:
    """The SHA-256 of the prior draws of samples 0..7 of seed 0, shape (3, 32, 32).

    The draws are encoded as little-endian float32.
    """
    import torch

    from ggf_cli.noise import Noise

    index = torch.arange(8, device=torch.device(device))
    z = Noise(seed=0, shape=(3, 32, 32))(index, torch.zeros_like(index))
    return sha256_of(z.cpu().numpy().astype("<f4").tobytes())
