"""Compiled networks: two batch sizes, the same samples."""

import shutil
from dataclasses import replace

import pytest
import torch

from ggf_cli import compilation
from ggf_cli.compilation import batch_sizes, compiled, warm_up
from ggf_cli.engine import Engine
from ggf_cli.errors import SolveError
from ggf_cli.solvers import make_solver
from problems import VP, gaussian_model

needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs g++")


@pytest.mark.parametrize("n", [1, 5, 8, 21])
def test_a_run_gives_a_compiled_network_two_batch_sizes_only(n):
    calls = []
    plain = gaussian_model(VP)

    def score(x, t):
        calls.append(len(x))
        return plain.score(x, t)

    model = replace(plain, score=score, compiled=True)
    engine = Engine(model, make_solver("adaptive", {"eps_rel": 0.1}), batch_size=8)
    samples = {sample.index: sample for sample in engine.run(range(n))}
    assert len(samples) == n
    assert set(calls) <= set(batch_sizes(model, 8)) == {2, 8}
    assert calls[-1] == 2 or n > 2
    assert engine.progress.rows_evaluated == sum(calls)
    alone = Engine(plain, make_solver("adaptive", {"eps_rel": 0.1}), batch_size=8)
    for sample in alone.run(range(n)):
        torch.testing.assert_close(samples[sample.index].x, sample.x)
        assert samples[sample.index].nfe == sample.nfe


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch itself, while compiling
@needs_compiler
def test_compiled_code_computes_the_score():
    plain = gaussian_model(VP)
    model = compiled(plain)
    assert model.compiled
    assert not plain.compiled
    x, t = torch.randn(4, *plain.shape, dtype=plain.dtype), torch.linspace(0.1, 0.9, 4).double()
    torch.testing.assert_close(model.score(x, t), plain.score(x, t))


def test_an_exactly_known_score_is_left_alone(mixture):
    assert compiled(mixture) is mixture


def test_warm_up_meets_every_size_and_a_missing_compiler(monkeypatch):
    sizes = []
    plain = gaussian_model(VP)

    def fake(score, **options):
        assert options["fullgraph"]
        assert not options["dynamic"]

        def code(x, t):
            sizes.append(len(x))
            if len(x) > 10:
                raise RuntimeError("no compiler\nand much more")
            return score(x, t)

        return code

    monkeypatch.setattr(compilation.torch, "compile", fake)
    model = compiled(plain)
    warm_up(model, 10)
    assert sizes == [3, 10]
    warm_up(plain, 10)
    assert sizes == [3, 10]
    with pytest.raises(SolveError, match=r"cannot be compiled: no compiler$"):
        warm_up(model, 12)
