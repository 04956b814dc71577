"""The arithmetic of the network."""

from dataclasses import replace

import pytest
import torch

from ggf_cli import precision
from ggf_cli.errors import UsageError
from ggf_cli.precision import deviation, in_precision
from problems import VP, gaussian_model


def test_bfloat16_changes_the_network_alone_and_little(fashion):
    model = in_precision(fashion, "bf16")
    assert (fashion.precision, model.precision) == ("fp32", "bf16")
    x, t = torch.randn(4, 1, 28, 28), torch.full((4,), 0.5, dtype=torch.float64)
    with torch.no_grad():
        faster, plain = model.score(x, t), fashion.score(x, t)
    assert faster.dtype == torch.float32
    assert not torch.equal(faster, plain)
    assert 1e-4 < deviation(fashion, model) < precision.TOLERANCE
    assert deviation(fashion, fashion) == 0


def test_exact_scores_and_fp32_are_left_alone(fashion, mixture):
    assert in_precision(mixture, "bf16") is mixture
    assert in_precision(fashion, "fp32") is fashion
    with pytest.raises(UsageError, match="auto, fp32 or bf16"):
        in_precision(fashion, "fp16")


def test_auto_takes_bfloat16_only_where_it_is_fast_and_agrees(monkeypatch):
    weight = torch.eye(16) * 1.001
    plain = gaussian_model(VP, dtype=torch.float32)

    def difference_of_near_numbers(x, t):  # 256 of them are one in bfloat16
        flat = x.flatten(1)
        return ((flat @ weight - flat @ torch.eye(16)) * 1e3).reshape(x.shape)

    rough = replace(plain, score=difference_of_near_numbers)
    monkeypatch.setattr(precision, "fast_bf16", lambda device: True)
    assert in_precision(rough, "auto").precision == "fp32"
    assert in_precision(rough, "bf16").precision == "bf16"
    assert in_precision(plain, "auto").precision == "bf16"
    monkeypatch.setattr(precision, "fast_bf16", lambda device: False)
    assert in_precision(plain, "auto").precision == "fp32"
