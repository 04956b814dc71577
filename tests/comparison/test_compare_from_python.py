"""`ggf_cli.compare`: the function behind `ggf compare`."""

import json
import subprocess
import sys

import pytest

import ggf_cli
from command import ggf, read_comparison
from ggf_cli.errors import OptionError, OutputError, UsageError

SETTINGS = {"eps_rel": (0.5,), "nfe": (10,), "n": 12, "batch_size": 4, "metrics": ["swd"]}
OPTIONS = "--eps-rel 0.5 --nfe 10 --n 12 --batch-size 4 --metric swd --device cpu --precision fp32"


def numbers(document):
    """The results of a comparison that do not depend on time."""
    names = ("id", "label", "quality", "nfe_counts", "step_sizes", "command", "runs", "best")
    cells = [{name: cell[name] for name in names} for cell in document["cells"]]
    return cells, document["command"], document["findings"], document["recommendation"]


def test_compare_writes_the_same_results_as_ggf_compare(tmp_path, mixture):
    result = ggf_cli.compare(mixture, ["em", "adaptive"], out=tmp_path / "a", **SETTINGS)
    command = ["compare", "em", "adaptive", "--model", "mixture", *OPTIONS.split()]
    done = ggf(*command, "--quiet", "--out", tmp_path / "b")
    assert done.exit_code == 0, done.output
    document = read_comparison(tmp_path / "a")
    assert result.document == document
    assert numbers(document) == numbers(read_comparison(tmp_path / "b"))
    assert {p.name for p in (tmp_path / "a").iterdir()} == {
        p.name for p in (tmp_path / "b").iterdir()
    }


def test_an_interrupted_comparison_continues(tmp_path, mixture):
    class Interrupt(ggf_cli.ComparisonObserver):
        def tick(self, progress):
            if progress.finished >= 8:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ggf_cli.compare(mixture, ["em", "adaptive"], out=tmp_path, observer=Interrupt(), **SETTINGS)
    assert read_comparison(tmp_path)["status"] == "interrupted"
    counts = []

    class First(ggf_cli.ComparisonObserver):
        def tick(self, progress):
            counts.append(progress.finished)

    result = ggf_cli.compare(
        mixture, ["em", "adaptive"], out=tmp_path, observer=First(), **SETTINGS
    )
    assert counts[0] >= 8
    assert result.document["status"] == "completed"
    assert not result.interrupted


def test_error_messages_name_the_python_arguments(tmp_path, mixture):
    with pytest.raises(OptionError, match=r"^n is 1, it must lie in"):
        ggf_cli.compare(mixture, ["em"], out=tmp_path, n=1)


def test_another_comparison_in_the_folder_is_refused(tmp_path, mixture):
    settings = {**SETTINGS, "nfe": (5, 10)}
    ggf_cli.compare(mixture, ["em"], out=tmp_path, **settings)
    with pytest.raises(OutputError, match="another comparison: it differs in seed"):
        ggf_cli.compare(mixture, ["em"], out=tmp_path, seed=1, **settings)


def test_the_function_is_not_shadowed_by_a_module():
    code = "import ggf_cli.comparison.runner, ggf_cli; assert callable(ggf_cli.compare)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_each_run_of_a_comparison_is_shown_and_checked(tmp_path, mixture):
    ggf_cli.compare(mixture, ["em", "adaptive"], out=tmp_path, **SETTINGS)
    run = tmp_path / "cells/em-nfe=10/0"
    assert "mixture" in ggf("show", run).stdout
    assert ggf("show", run, "--check").exit_code == 0
    done = ggf("show", tmp_path, "--check", "--json")
    assert done.exit_code == 0
    states = json.loads(done.stdout)["files"]
    assert states["cells/em-nfe=10/0/samples.npz"] == "intact"
    (run / "samples.npz").write_bytes(b"other")
    (tmp_path / "cells/adaptive-eps_rel=0.5/0/run.json").unlink()
    done = ggf("show", tmp_path, "--check", "--json")
    assert done.exit_code == 5
    states = json.loads(done.stdout)["files"]
    assert states["cells/em-nfe=10/0/samples.npz"] == "altered"
    assert states["cells/adaptive-eps_rel=0.5/0/run.json"] == "missing"


def test_one_value_stands_for_a_list(tmp_path, mixture):
    several = ggf_cli.compare(mixture, ["em", "heun"], out=tmp_path / "a", **SETTINGS)
    one = {**SETTINGS, "eps_rel": 0.5, "nfe": 10, "metrics": "swd"}
    assert ggf_cli.compare(mixture, ["em", "heun"], out=tmp_path / "b", **one).document["cells"]
    same = ggf_cli.compare(mixture, ["em", "heun"], out=tmp_path / "a", **one)
    assert numbers(same.document) == numbers(several.document)
    with pytest.raises(UsageError, match="em-nfe=10 alone cannot be compared"):
        ggf_cli.compare(mixture, "em", out=tmp_path / "c", **one)


def test_a_reference_is_a_path(tmp_path, mixture):
    with pytest.raises(OptionError, match=r"reference is .*, it must be the path of"):
        ggf_cli.compare(mixture, ["em", "heun"], out=tmp_path, reference=[[1.0]], **SETTINGS)
