"""The table of solvers, their options, and the time grids of fixed-step solvers."""

from dataclasses import fields, replace

import pytest
import torch

import ggf_cli
from ggf_cli.engine import Engine
from ggf_cli.errors import UsageError
from ggf_cli.solvers import SOLVERS, make_solver
from ggf_cli.solvers.catalog import FILE, catalog_text, read_catalog
from ggf_cli.solvers.fixed import FixedStep
from ggf_cli.solvers.schedule import SCHEDULES, time_grid
from problems import VP, every_sde, gaussian_model

FIXED = [name for name, entry in SOLVERS.items() if issubclass(entry.load(), FixedStep)]
CPU = torch.device("cpu")

every_solver = pytest.mark.parametrize("name", SOLVERS)
every_fixed = pytest.mark.parametrize("name", FIXED)


def test_the_catalog_file_equals_the_solver_classes():
    assert FILE.read_text() == catalog_text(), "stale: run python -m ggf_cli.solvers.catalog"
    assert list(read_catalog()) == list(SOLVERS)


@every_solver
def test_a_solver_declares_its_name_kind_and_help(name):
    cls = SOLVERS[name].load()
    assert cls.name == name
    assert cls.kind in ("sde", "ode")
    for field in fields(cls):
        assert field.metadata["help"], field.name


def test_an_option_of_several_solvers_has_one_type():
    kinds = {}
    for solver in read_catalog().values():
        for name, option in solver.options.items():
            kind = option.type, option.choices
            assert kinds.setdefault(name, kind) == kind, name


@every_solver
def test_every_option_refuses_an_invalid_value(name):
    for option, about in read_catalog()[name].options.items():
        nan = float("nan")
        bad = {"text": "?!", "bool": 1, "int": 1.5, "float": nan, "numbers": [1.0, nan]}
        with pytest.raises(UsageError, match=f"^{option} of solver"):
            make_solver(name, {option: bad[about.type]})


@every_sde
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_grids_fall_from_T_to_t_eps(sde, schedule, steps):
    grid = time_grid(sde, steps, schedule, CPU)
    assert grid.shape == (steps + 1,)
    assert grid[0] == sde.T
    assert grid[-1] == sde.t_eps
    assert (grid.diff() < 0).all()


@every_sde
def test_the_steps_of_a_grid_are_equal_in_its_variable(sde):
    variables = {
        "time": lambda t: t,
        "logsnr": sde.half_log_snr,
        "karras": lambda t: (sde.sigma(t) / sde.alpha(t)) ** (1 / 7),
    }
    for schedule, variable in variables.items():
        steps = variable(time_grid(sde, 50, schedule, CPU)).diff()
        torch.testing.assert_close(steps, steps.mean().expand(50), rtol=1e-6, atol=0)


@every_fixed
@pytest.mark.parametrize("budget", [20, 41, 100])
def test_a_budget_gives_the_largest_possible_number_of_steps(name, budget):
    solver = make_solver(name, {"nfe": budget})
    nfe = int(ggf_cli.sample(gaussian_model(VP), 1, solver=solver).nfe)
    assert nfe == solver.expected_nfe() <= budget
    assert solver.nfe_of(solver.resolved(VP).steps + 1) > budget
    assert solver.resolved(VP).nfe is None


@every_fixed
def test_impossible_budgets_are_refused(name):
    with pytest.raises(UsageError, match=r"^nfe of solver"):
        make_solver(name, {"nfe": 1})
    with pytest.raises(UsageError, match="exclude"):
        make_solver(name, {"nfe": 50, "steps": 3})


def test_options_that_are_not_given_take_the_recommended_values_of_the_model():
    model = replace(gaussian_model(VP), recommended={"snr": 0.075, "steps": 3})
    assert Engine(model, make_solver("pc")).solver.snr == 0.075
    assert Engine(model, make_solver("pc", {"snr": 0.2})).solver.snr == 0.2
    assert Engine(gaussian_model(VP), make_solver("pc")).solver.snr == 0.16
    assert Engine(model, make_solver("em")).solver.steps == 1000
