"""Frozen schedules: the schedule of one sample, the mean of several, and a run with it."""

import json

import pytest
import torch
from PIL import Image

import ggf_cli
from command import ggf
from ggf_cli.engine import Engine
from ggf_cli.errors import SolveError, UsageError
from ggf_cli.pilot import FIRST, freeze_schedule, mean_schedule
from ggf_cli.solvers import make_solver
from ggf_cli.trace import Trace
from problems import VP, every_sde, gaussian_model


@every_sde
def test_a_sample_with_its_own_steps_frozen_is_the_same_sample(sde):
    model = gaussian_model(sde)
    trace = Trace([3], sde.T)
    engine = Engine(model, make_solver("adaptive-multistep"), batch_size=1)
    (free,) = engine.run([3], trace.update)
    trace.finish(free)
    times = tuple(trace.times[3])
    bound = ggf_cli.sample(model, [3], solver="adaptive-multistep", times=times)
    frozen = make_solver("adaptive-multistep", {"times": times})
    assert int(bound.nfe[0]) == free.nfe == frozen.expected_nfe()
    torch.testing.assert_close(bound.images[0], free.image, atol=1e-6, rtol=0)


@every_sde
def test_the_mean_of_equal_schedules_is_that_schedule(sde):
    ends = sde.half_log_snr(torch.tensor([sde.T, sde.t_eps]).double()).tolist()
    times = sde.time_at(torch.linspace(*ends, 9).double())
    run = [sde.T, *times[1:-1].tolist(), sde.t_eps]
    assert mean_schedule(sde, [run, run]) == pytest.approx(run, rel=1e-9)
    # The mean of 8 and of 4 equal steps is 6 equal steps.
    half = run[::2]
    mixed = mean_schedule(sde, [run, half])
    assert len(mixed) == 7
    widths = sde.half_log_snr(torch.tensor(mixed, dtype=torch.float64)).diff()
    assert widths == pytest.approx(widths.mean().expand(6).numpy(), rel=1e-6)


def test_every_sample_of_a_frozen_solver_has_the_same_nfe(mixture):
    adaptive = make_solver("adaptive-multistep", {"eps_rel": 0.05})
    solver = freeze_schedule(mixture, adaptive, 6, seed=1)
    free = ggf_cli.sample(
        mixture, range(FIRST, FIRST + 6), solver="adaptive-multistep", eps_rel=0.05, seed=1
    )
    bound = ggf_cli.sample(mixture, 12, solver=solver, seed=1)
    assert set(bound.nfe.tolist()) == {round(float(free.nfe.double().mean() - 1)) + 1}
    assert freeze_schedule(mixture, adaptive, 6, seed=1) == solver
    assert freeze_schedule(mixture, adaptive, 6, seed=2) != solver


def test_invalid_frozen_schedules_are_refused(mixture):
    with pytest.raises(UsageError, match="takes no frozen steps"):
        freeze_schedule(mixture, make_solver("em"), 4)
    with pytest.raises(UsageError, match="must be two or more, and decrease"):
        make_solver("adaptive-multistep", {"times": "1.0,0.5,0.6,0.001"})
    with pytest.raises(UsageError, match="it must be numbers with commas"):
        make_solver("adaptive-multistep", {"times": "1.0,x"})
    with pytest.raises(UsageError, match=r"run from 1.0 to 0.1, not from 1.0 to 0.001"):
        ggf_cli.sample(mixture, 2, solver="adaptive-multistep", times="1.0,0.1")
    lost = gaussian_model(VP)
    broken = type(lost)(score=lambda x, t: x * torch.nan, sde=VP, shape=lost.shape)
    with pytest.raises(SolveError, match="none of 4 pilot samples"):
        freeze_schedule(broken, make_solver("adaptive-multistep"), 4)


def test_the_command_of_a_pilot_run_contains_its_times(tmp_path):
    words = ["sample", "--model", "mixture", "--n", "3", "--solver", "adaptive-multistep"]
    done = ggf(*words, "--quiet", "--pilot", "4", "--out", tmp_path / "a")
    assert done.exit_code == 0, done.output
    log = json.loads((tmp_path / "a" / "run.json").read_text())
    times = log["solver"]["options"]["times"]
    assert f"--times {','.join(map(repr, times))}" in log["command"]
    assert log["nfe"]["min"] == log["nfe"]["max"] == len(times)
    again = ggf(*log["command"].split()[1:], "--out", tmp_path / "b", "--quiet")
    assert again.exit_code == 0, again.output
    images = sorted((tmp_path / "a").rglob("*.png"))
    # Three samples and the grid.
    assert len(images) == 4
    for image in images:
        other = tmp_path / "b" / image.relative_to(tmp_path / "a")
        assert Image.open(image).tobytes() == Image.open(other).tobytes()
    both = ggf(*log["command"].split()[1:], "--pilot", "4", "--out", tmp_path / "c")
    assert both.exit_code == 2
    other = ggf(
        "sample", "--model", "mixture", "--solver", "em", "--pilot", "4", "--out", tmp_path / "d"
    )
    assert other.exit_code == 2
