"""benchmarks/scale_out.py, the simulation of many GPUs: cases with a known answer."""

import importlib.util
import json
import sys

import numpy as np
import pytest

from paths import ROOT

FILE = ROOT / "benchmarks/scale_out.py"


@pytest.fixture(scope="module")
def scale_out():
    spec = importlib.util.spec_from_file_location("scale_out", FILE)
    module = sys.modules["scale_out"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_equal_samples_in_full_batches_give_full_utilisation(scale_out):
    free = scale_out.Costs()
    for gpus, batch, rounds in [(1, 1, 7), (1, 64, 3), (4, 16, 1), (64, 16, 1)]:
        nfe = [100] * (gpus * batch * rounds)
        got = scale_out.simulate(nfe, gpus, batch, tick=0.1, floor=0.3, costs=free)
        assert got.draw_s == pytest.approx(rounds * 100 * 0.1)
        assert got.utilisation == pytest.approx(1)
        assert got.idle == pytest.approx(0, abs=1e-9)


def test_one_gpu_with_one_slot_takes_the_sum_of_all_samples_and_the_last_file(scale_out):
    nfe = [3, 100, 20, 8]
    costs = scale_out.Costs(write=0.5, end=2.0)
    got = scale_out.simulate(nfe, 1, 1, tick=0.1, floor=0.3, costs=costs)
    assert got.draw_s == pytest.approx(13.1 + 0.5)
    assert got.end_s == 8
    assert got.utilisation == pytest.approx(13.1 / (13.1 + 0.5 + 8))


def test_a_gpu_waits_for_the_writer_only_if_its_queue_is_full(scale_out):
    costs = scale_out.Costs(write=5.0)
    # One second each.
    nfe = [10] * 6
    for room, writing in [(0, 25), (1, 25), (10, 25)]:
        got = scale_out.simulate(nfe, 1, 1, tick=0.1, floor=1, costs=costs, room=room)
        assert got.draw_s == pytest.approx(1 + 6 * 5)
        assert got.writing * got.draw_s == pytest.approx(writing)
    # If the queue holds all, the GPU waits only at the end, for the same time.
    writer = scale_out.Writer(5.0, 1)
    assert [writer.put(now) for now in (0.0, 1.0, 2.0, 6.0)] == [0.0, 1.0, 5.0, 10.0]
    assert writer.end == 20.0


def test_calls_with_few_rows_are_shorter_down_to_a_floor(scale_out):
    costs = scale_out.Costs()
    got = scale_out.simulate([10, 20, 30, 40], 1, 4, tick=0.1, floor=0.5, costs=costs)
    assert got.draw_s == pytest.approx(1 + 0.75 + 0.5 + 0.5)


def test_progress_is_written_to_the_store(scale_out):
    costs = scale_out.Costs(set=0.3)
    got = scale_out.simulate([10] * 5, 1, 1, tick=1.0, floor=1.0, costs=costs)
    # Once per sample, because a sample takes longer than the pause between two writes.
    assert got.draw_s == pytest.approx(50 + 5 * 0.3)
    assert got.busy == pytest.approx(5 * 0.3 / got.draw_s)


@pytest.mark.parametrize("gpus", [2, 8, 48])
def test_a_run_respects_its_lower_bounds_and_all_time_is_accounted_for(scale_out, gpus):
    nfe = np.random.default_rng(0).integers(50, 400, 3000)
    costs = scale_out.Costs(round_trip=1e-3, add=1e-4, set=1e-4, get=1e-5, write=1e-2, end=1e-3)
    got = scale_out.simulate(nfe, gpus, 8, tick=0.05, floor=0.2, costs=costs)
    assert got.draw_s > nfe.sum() * 0.05 / (8 * gpus)
    assert got.draw_s > nfe.max() * 0.05 * 0.2
    assert 0 < got.tail_s < 2 * nfe.max() * 0.05 + 1
    shares = (got.utilisation, got.idle, got.writing, got.asking, got.ending)
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0
    # The writers keep up: each GPU waits for its last samples only.
    assert 0 < got.writing * gpus * (got.draw_s + got.end_s) <= gpus * 8 * 1e-2


def test_a_slow_store_shows_as_busy_and_as_time_spent_asking(scale_out):
    nfe = [10] * 4096
    slow = scale_out.simulate(nfe, 64, 8, tick=1e-3, floor=1.0, costs=scale_out.Costs(add=0.1))
    assert slow.busy > 0.9
    assert slow.asking > 0.5
    assert slow.draw_s >= 0.1 * 4096 / 16


def test_the_script_prints_a_table_for_runs_and_for_built_in_distributions(
    scale_out, tmp_path, capsys, monkeypatch
):
    run = {
        "model": {"name": "m"},
        "solver": {"name": "s", "options": {"eps_rel": 0.02}},
        "samples": [{"nfe": 5}, {"nfe": 7}],
    }
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert scale_out.distributions([tmp_path]) == {"m, s 0.02": {5: 1, 7: 1}}
    real = scale_out.measure_files
    monkeypatch.setattr(scale_out, "measure_files", lambda format: real(format, samples=20))
    scale_out.main(["--n", "500", "--gpus", "2,4", "--batch", "8", "--out", str(tmp_path / "out")])
    assert "utilisation" in capsys.readouterr().out
    report = json.loads((tmp_path / "out/scale-out.json").read_text())
    assert len(report["runs"]) == len(scale_out.distributions([]))
    assert all(report["costs"][name] > 0 for name in ("add", "set", "get", "write", "end"))
    assert (tmp_path / "out/scale-out.png").exists()
