"""Environment, options and fixtures of all tests."""

import os

os.environ.update(NO_COLOR="1", TERM="dumb", COLUMNS="100", MPLBACKEND="agg")
os.environ.pop("FORCE_COLOR", None)
os.environ.pop("GITHUB_ACTIONS", None)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hypothesis
import pytest
import torch

# No deadline: the tests also run on slow machines.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

# One thread in each xdist process: these processes share the cores.
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, os.cpu_count() or 1))


@pytest.fixture(scope="session")
def fashion():
    import ggf_cli

    return ggf_cli.load_model("fashion-vp", device="cpu")


@pytest.fixture(scope="session")
def mixture():
    import ggf_cli

    return ggf_cli.load_model("mixture", device="cpu")


def pytest_addoption(parser):
    parser.addoption(
        "--other-maths",
        action="store_true",
        help="round elementary functions as on another machine: see tests/support/other_maths.py",
    )


@pytest.fixture(autouse=True)
def other_maths(request):
    if not request.config.getoption("--other-maths"):
        yield
        return
    from other_maths import OtherMaths

    with OtherMaths():
        yield


def pytest_xdist_auto_num_workers(config):
    """Start one process more than there are cores.

    For about a fifth of the time, tests wait for programs that they have started.
    """
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else None
