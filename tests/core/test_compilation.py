"""Compiled networks: they are called with two batch sizes, and the samples stay the same."""

import itertools
import shutil
from dataclasses import replace

import pytest
import torch
from torch._dynamo.utils import counters

from command import ggf
from ggf_cli.checkpoints.load import load_model
from ggf_cli.engine import Engine
from ggf_cli.errors import SolveError
from ggf_cli.networks.ncsnpp import NCSNpp
from ggf_cli.networks.unet import UNet
from ggf_cli.parametrizations import ve_continuous, vp_continuous
from ggf_cli.runtime import compilation
from ggf_cli.runtime.compilation import batch_sizes, compiled, warm_up
from ggf_cli.runtime.precision import in_precision
from ggf_cli.solvers import make_solver
from problems import VE, VP, gaussian_model

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


# torch itself warns while it compiles.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@needs_compiler
def test_compiled_code_computes_the_score():
    plain = gaussian_model(VP)
    model = compiled(plain)
    assert model.compiled
    assert not plain.compiled
    x, t = torch.randn(4, *plain.shape, dtype=plain.dtype), torch.linspace(0.1, 0.9, 4).double()
    torch.testing.assert_close(model.score(x, t), plain.score(x, t))


def test_an_exact_score_is_not_compiled(mixture):
    assert compiled(mixture) is mixture


def test_warm_up_calls_every_batch_size_and_reports_a_missing_compiler(monkeypatch):
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


# --- graphs that torch traces ---------------------------------------------------------------------

UNET = {
    "image_channels": 1,
    "channels": (8, 8),
    "groups": 4,
    "blocks": 1,
    "attention_down": (False, True),
    "attention_up": (True, False),
}
NCSNPP = {
    "image_channels": 1,
    "channels": (8, 8),
    "attention": (False, True),
    "blocks": 1,
    "embedding": "fourier",
    "progressive": "output_skip",
    "progressive_input": "input_skip",
    "scale_by_sigma": True,
}
NETWORKS = {
    "unet": lambda: vp_continuous(UNet(**UNET).eval(), VP),
    "ncsnpp": lambda: ve_continuous(NCSNpp(**NCSNPP).eval(), VE),
}


@pytest.fixture
def traced(monkeypatch):
    """Let torch.compile trace graphs, but run them without generating code; reset in each test."""
    compile = torch.compile

    def trace(score, *, mode, **options):
        return compile(score, backend="eager", **options)

    torch.compiler.reset()
    counters.clear()
    monkeypatch.setattr(compilation.torch, "compile", trace)
    yield
    torch.compiler.reset()


def whole_run(model, sizes, solver):
    """Fill, refill and drain a batch after the warm-up. A new shape, type or layout is an error."""
    warm_up(model, 8)
    with torch.compiler.set_stance("fail_on_recompile"):
        engine = Engine(model, solver, batch_size=8)
        samples = list(engine.run(range(10), lambda p: sizes.add(p.rows_evaluated)))
    assert len(samples) == 10


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("unet", "bf16"),
        ("ncsnpp", "fp32"),
        pytest.param("unet", "fp32", marks=pytest.mark.nightly),
        pytest.param("ncsnpp", "bf16", marks=pytest.mark.nightly),
    ],
)
def test_nothing_is_compiled_after_the_warm_up_and_no_graph_breaks(name, precision, traced):
    torch.manual_seed(0)
    plain = replace(
        gaussian_model(VP if name == "unet" else VE, (1, 8, 8), torch.float32),
        score=NETWORKS[name](),
    )
    model = compiled(in_precision(plain, precision))
    assert model.precision == precision
    rows = {0}
    whole_run(model, rows, make_solver("em", {"steps": 3}))
    rows = sorted(rows)
    # 8 is the full batch, 2 the batch of the drain.
    assert {b - a for a, b in itertools.pairwise(rows)} == {2, 8}
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]


def test_a_batch_size_without_warm_up_is_an_error_in_these_tests(traced):
    # Without the mark `compiled` the engine drains with every even batch size.
    model = replace(compiled(gaussian_model(VP)), compiled=False)
    with pytest.raises(RuntimeError, match="recompile"):
        whole_run(replace(model, score=model.score), set(), make_solver("em", {"steps": 2}))


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["fashion-vp", "fashion-ve"])
def test_the_embedded_networks_compile_without_graph_breaks(name, traced):
    model = compiled(in_precision(load_model(name, device="cpu"), "bf16"))
    whole_run(model, set(), make_solver("adaptive", {"eps_rel": 1.0}))
    assert not counters["graph_break"]


@pytest.mark.nightly
# torch itself warns while it compiles.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@needs_compiler
def test_the_real_compiler_compiles_nothing_after_the_warm_up():
    torch.compiler.reset()
    plain = replace(gaussian_model(VP, (1, 8, 8), torch.float32), score=NETWORKS["unet"]())
    solver = make_solver("adaptive", {"eps_rel": 1.0})
    whole_run(compiled(plain), set(), solver)


@pytest.mark.parametrize("quiet", [False, True])
def test_the_program_prints_that_it_compiles_the_network(tmp_path, monkeypatch, quiet):
    monkeypatch.setattr(compilation.torch, "compile", lambda score, **options: score)
    words = ["sample", "--compile", "--solver", "em", "--steps", "1", "--n", "2"]
    words += ["--format", "none", "--out", str(tmp_path), *(["--quiet"] if quiet else [])]
    done = ggf(*words)
    assert done.exit_code == 0, done.stderr
    assert ("compiling the network" in done.stderr) != quiet
