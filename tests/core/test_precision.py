"""The precision of the network, and the choice of `--precision auto`."""

import math
from dataclasses import replace

import pytest
import torch

from command import ggf
from ggf_cli.checkpoints.load import load_model
from ggf_cli.errors import UsageError
from ggf_cli.runtime import precision
from ggf_cli.runtime.devices import full_precision
from ggf_cli.runtime.precision import deviation, in_precision
from ggf_cli.solvers import SOLVERS, make_solver
from problems import VP, gaussian_model


def test_bfloat16_changes_only_the_network_and_its_output_a_little(fashion):
    model = in_precision(fashion, "bf16")
    assert (fashion.precision, model.precision) == ("fp32", "bf16")
    x, t = torch.randn(4, 1, 28, 28), torch.full((4,), 0.5, dtype=torch.float64)
    with torch.no_grad():
        faster, plain = model.score(x, t), fashion.score(x, t)
    assert faster.dtype == torch.float32
    assert not torch.equal(faster, plain)
    assert 1e-4 < deviation(fashion, model) < precision.TOLERANCE
    assert deviation(fashion, fashion) == 0


def test_exact_scores_and_fp32_are_unchanged(fashion, mixture):
    assert in_precision(mixture, "bf16") is mixture
    assert in_precision(fashion, "fp32") is fashion
    with pytest.raises(UsageError, match="auto, fp32, tf32, bf16, fp16"):
        in_precision(fashion, "fp8")


def test_auto_takes_bfloat16_only_where_it_is_fast_and_agrees(monkeypatch):
    weight = torch.eye(16) * 1.001
    plain = gaussian_model(VP, dtype=torch.float32)

    # In bfloat16 the weight 1.001 is rounded to 1, and the difference is lost.
    def difference_of_near_numbers(x, t):
        flat = x.flatten(1)
        return ((flat @ weight - flat @ torch.eye(16)) * 1e3).reshape(x.shape)

    rough = replace(plain, score=difference_of_near_numbers)
    monkeypatch.setattr(precision, "fast_bf16", lambda device: True)
    assert in_precision(rough, "auto").precision == "fp32"
    assert in_precision(rough, "bf16").precision == "bf16"
    assert in_precision(plain, "auto").precision == "bf16"
    monkeypatch.setattr(precision, "fast_bf16", lambda device: False)
    assert in_precision(plain, "auto").precision == "fp32"


def test_auto_is_float32_for_tolerances_that_bfloat16_cannot_resolve(monkeypatch):
    plain = gaussian_model(VP, dtype=torch.float32)
    monkeypatch.setattr(precision, "fast_bf16", lambda device: True)
    for name in SOLVERS:
        chosen = in_precision(plain, "auto", make_solver(name).tolerance).precision
        assert chosen == ("fp32" if name == "ode-rk45" else "bf16")
    fine = make_solver("adaptive", {"eps_rel": 1e-4}).tolerance
    assert in_precision(plain, "auto", fine).precision == "fp32"
    # An explicit choice of the user is kept.
    assert in_precision(plain, "bf16", fine).precision == "bf16"


@pytest.mark.parametrize(
    ("words", "finest"),
    [
        (["sample", "--solver", "ode-rk45", "--n", "2"], 1e-5),
        (["sample", "--solver", "ddim", "--steps", "2", "--n", "2"], math.inf),
        (["compare", "em:steps=2", "adaptive:eps-rel=0.5", "--n", "2", "--nfe", "default"], 0.5),
    ],
)
def test_the_commands_pass_the_finest_tolerance_of_their_solvers(
    words, finest, monkeypatch, tmp_path
):
    recorded = []

    def record(model, precision, finest):
        recorded.append((precision, finest))
        return model

    monkeypatch.setattr("ggf_cli.cli.model.in_precision", record)
    done = ggf(*words, "--model", "mixture", "--out", tmp_path / "a")
    assert done.exit_code == 0, done.output
    assert recorded == [("auto", finest)]


def test_auto_avoids_bfloat16_if_its_scores_are_not_finite(monkeypatch):
    plain = gaussian_model(VP, dtype=torch.float32)
    large = torch.eye(16) * 1e30

    # 1e60 overflows. Only autocast, not float32, computes this product.
    def overflows(x, t):
        flat = x.flatten(1)
        if torch.is_autocast_enabled("cpu"):
            flat = flat @ large @ large
        return flat.reshape(x.shape).float()

    monkeypatch.setattr(precision, "fast_bf16", lambda device: True)
    assert in_precision(replace(plain, score=overflows), "auto").precision == "fp32"


def test_float16_is_accurate_or_refused(fashion):
    model = in_precision(fashion, "fp16")
    assert model.precision == "fp16"
    assert 1e-5 < deviation(fashion, model) < deviation(fashion, in_precision(fashion, "bf16"))

    plain = gaussian_model(VP, dtype=torch.float32)
    # Larger than the largest float16, 65,504.
    weight = torch.eye(16) * 1e5

    def large(x, t):
        return (x.flatten(1) @ weight).reshape(x.shape) / 1e5

    with pytest.raises(UsageError, match="gaussian in fp16 are not finite"):
        in_precision(replace(plain, score=large), "fp16")


def test_tf32_needs_cuda():
    with pytest.raises(UsageError, match="precision tf32 needs a CUDA device, this is cpu"):
        in_precision(gaussian_model(VP), "tf32")


def test_tf32_is_turned_on_and_off_for_the_whole_process():
    def flags():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = flags()
    try:
        full_precision(False)
        assert flags() == (True, True)
        full_precision()
        assert flags() == (False, False)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.gpu
def test_tf32_is_checked_against_float32():
    full_precision()
    plain = load_model("fashion-vp", device="cuda")
    try:
        model = in_precision(plain, "tf32")
        assert model.precision == "tf32"
        assert torch.backends.cudnn.allow_tf32
    finally:
        full_precision()
