import pytest


@pytest.fixture
def small_files(monkeypatch):
    """Write .npz files of two samples, and a constant in place of each figure of a comparison."""
    from ggf_cli.comparison.report import distributions, grids, quality
    from ggf_cli.runs import sample_files

    monkeypatch.setattr(sample_files, "SHARD_SAMPLES", 2)
    for module, name in (
        (distributions, "nfe_histogram"),
        (distributions, "step_sizes"),
        (grids, "grids"),
        (quality, "quality_vs_nfe"),
    ):
        monkeypatch.setattr(module, name, lambda *_: b"a picture")
