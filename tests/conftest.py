import os

os.environ.update(NO_COLOR="1", TERM="dumb", COLUMNS="100", MPLBACKEND="agg")
os.environ.pop("FORCE_COLOR", None)
os.environ.pop("GITHUB_ACTIONS", None)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hypothesis
import pytest
import torch

# A slow one is no fault.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

# one thread for each of the processes that share the tests
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, os.cpu_count() or 1))


@pytest.fixture(scope="session")
def fashion():
    import ggf_cli

    return ggf_cli.load_model("fashion-vp")


@pytest.fixture(scope="session")
def mixture():
    import ggf_cli

    return ggf_cli.load_model("mixture")


def pytest_addoption(parser):
    parser.addoption(
        "--other-maths",
        action="store_true",
        help="run with the maths library of another machine: see tests/support/other_maths.py",
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
    """One process more than there are cores: a fifth of the time, tests wait for programs that they have started."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else None
