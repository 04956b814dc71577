"""`ggf compare` on the command line: output, files, continuation, presets and refused arguments."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from command import ggf, read_comparison
from ggf_cli.comparison.presets import PRESETS
from patience import PATIENCE

# On an exact model of few dimensions a comparison takes seconds.
QUICK = ["--model", "mixture", "--n", 8, "--repeats", 2, "--nfe", "10,20"]
QUICK += ["--eps-rel", "0.5", "--metric", "swd"]


def compare(*args):
    return ggf("compare", *args)


def test_compare_writes_table_figures_and_report(tmp_path):
    done = compare("adaptive", "em", *QUICK[:-2], "--out", tmp_path / "a")
    assert done.exit_code == 0, done.output
    document = read_comparison(tmp_path / "a")
    assert document["status"] == "completed"
    ids = [cell["id"] for cell in document["cells"]]
    assert ids == ["adaptive-eps_rel=0.5", "em-nfe=10", "em-nfe=20"]
    assert [m["name"] for m in document["metrics"]] == ["frechet", "swd"]
    figures = ("quality-vs-nfe.png", "nfe-histogram.png", "step-sizes.png", "grids.png")
    for name in ("compare.csv", "report.html", *figures):
        assert (tmp_path / "a" / name).stat().st_size > 500
    assert "ecommendation: " in done.stdout
    assert done.stdout.rstrip().endswith("report.html")


@pytest.mark.slow
def test_the_command_of_a_document_repeats_the_comparison(tmp_path):
    assert compare("adaptive", "em", *QUICK[:-2], "--out", tmp_path / "a").exit_code == 0
    document = read_comparison(tmp_path / "a")
    words = document["command"].split()[2:]
    again = compare(*words, "--out", tmp_path / "b", "--json")
    other = json.loads(again.stdout)
    assert other == read_comparison(tmp_path / "b")
    for one, two in zip(document["cells"], other["cells"], strict=True):
        assert one["quality"] == two["quality"]
        assert one["command"] == two["command"]


def test_the_same_command_continues_in_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = compare("em", *QUICK, "-q")
    (folder,) = (tmp_path / "runs").iterdir()
    assert first.stdout.strip() == f"runs/{folder.name}"
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("cells/*/*/*")}
    assert compare("em", *QUICK, "-q").stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in folder.glob("cells/*/*/*")} == kept
    # Another margin is another analysis of the same samples.
    assert compare("em", *QUICK, "-q", "--margin", "20%").stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in folder.glob("cells/*/*/*")} == kept
    document = read_comparison(folder)
    assert document["margin"] == document["recommendation"]["within"] == 0.2
    assert "--margin 20%" in document["command"]
    compare("em", *QUICK, "--seed", 1, "-q")
    assert len(list((tmp_path / "runs").iterdir())) == 2


@pytest.mark.slow
def test_a_budget_sets_n_and_a_continued_comparison_keeps_it(tmp_path):
    words = ["adaptive:eps-rel=0.5", "em:steps=10", "em:steps=20"]
    words += ["--model", "mixture", "--nfe", "5"]
    done = compare(*words, "--budget", "30s", "--metric", "swd", "--out", tmp_path / "a")
    assert done.exit_code == 0, done.output
    document = read_comparison(tmp_path / "a")
    assert document["budget_s"] == 30
    assert document["n"] >= 2
    assert document["repeats"] == 1
    assert f"--n {document['n']} " in document["command"]
    again = compare(*words, "--budget", "30s", "--metric", "swd", "--out", tmp_path / "a", "--json")
    assert json.loads(again.stdout)["n"] == document["n"]


@pytest.mark.parametrize(
    "preset", [pytest.param(p, marks=[pytest.mark.slow] * (i > 0)) for i, p in enumerate(PRESETS)]
)
def test_a_preset_runs_on_a_model_that_is_not_in_the_paper(preset, tmp_path, monkeypatch):
    """The line-up of the paper with fewer steps, so that the test is fast."""
    from dataclasses import replace

    from ggf_cli.comparison import presets

    small = [
        c if "nfe" not in c.given and "steps" not in c.given else replace(c, given={"nfe": 21})
        for c in PRESETS[preset].contenders
    ]
    table = replace(PRESETS[preset], contenders=tuple(small), reference=("em", {"nfe": 30}))
    monkeypatch.setitem(presets.PRESETS, preset, table)
    monkeypatch.setattr("ggf_cli.comparison.lineup.EPS_REL", (0.2, 0.5))
    words = ["--preset", preset, "--model", "mixture", "--n", 4, "--repeats", 1]
    done = compare(*words, "--metric", "swd", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    document = read_comparison(tmp_path)
    assert document["preset"] == preset
    assert all(cell["published"] is None for cell in document["cells"])
    assert {cell["solver"] for cell in document["cells"]} == {"em", *(c.solver for c in small)}
    assert all(cell["status"] == "done" for cell in document["cells"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["emm"], r"unknown solver 'emm'.*did you mean 'em'"),
        (["em:steps=0", "adaptive"], r"--steps.*em"),
        (["em:speed=9"], "no option 'speed'"),
        (["em", "--nfe", "1000,x"], "numbers with commas"),
        (["em", "--nfe", "0,5"], "1 at least"),
        (["em:steps=1000"], "alone cannot be compared"),
        (["em", "adaptive", "--metric", "sdw"], r"unknown metric 'sdw'.*did you mean 'swd'"),
        (["em", "adaptive", "--metric", "ffd"], r"'ffd' needs.*metrics for mixture: frechet, swd"),
        (["em", "adaptive", "--metric", "fid"], "'fid' needs"),
        (["em", "adaptive", "--n", "5", "--budget", "1m"], "exclude each other"),
        (["em", "adaptive", "--n", "1"], "--n is 1"),
        (["em", "adaptive", "--budget", "soon"], "a time like 90s"),
        (["em", "adaptive", "--budget", "10"], "10 of what.*write 10s or 10min"),
        (["em", "adaptive", "--repeats", "0"], "--repeats is 0"),
        (["em", "adaptive", "--margin", "0"], "--margin is 0"),
        (["em", "adaptive", "--margin", "nan%"], "must be a number"),
        (["em", "adaptive", "--margin", "small"], "like 0.02 or 2%"),
        (["em", "adaptive", "--precision", "fp8"], "auto, fp32, tf32, bf16, fp16"),
        (["em", "--preset", "paper-cifar10"], "has its own solvers"),
        (["--preset", "paper-cifar"], "did you mean 'paper-cifar10'"),
        (["em", "adaptive", "--model", "nope"], "unknown model 'nope'"),
        (["em", "adaptive", "--reference", "nowhere"], "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_arguments_are_refused(words, message, tmp_path):
    model = [] if "--model" in words else ["--model", "mixture"]
    done = compare(*words, *model, "--out", tmp_path / "out")
    assert done.exit_code == 2, done.output
    assert re.search(message, " ".join(done.stderr.split()))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_another_comparison_is_refused_and_unchanged(tmp_path):
    assert compare("em", *QUICK, "--out", tmp_path).exit_code == 0
    before = (tmp_path / "compare.json").read_bytes()
    done = compare("em", *QUICK, "--seed", 5, "--out", tmp_path)
    assert done.exit_code == 5
    assert "differs in seed" in done.stderr
    assert (tmp_path / "compare.json").read_bytes() == before


class ColourMoments:
    """A replacement of the Inception network: 8 features of each image."""

    size = 8

    def __call__(self, images):
        x = images.float() / 255
        return __import__("torch").stack(
            [x.mean((1, 2, 3)), x.std((1, 2, 3)), *x.mean((2, 3)).T, *x.std((2, 3)).T], dim=1
        )


def test_fid_against_a_folder_of_images(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "ggf_cli.metrics.inception.load_network", lambda *args, **more: ColourMoments()
    )
    rng = np.random.default_rng(0)
    (tmp_path / "real").mkdir()
    for i in range(60):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "real" / f"{i}.png")
    words = ["em", *QUICK[:2], "--n", 24, "--repeats", 1, "--nfe", "5,10"]
    words += ["--reference", tmp_path / "real", "--metric", "fid,kid"]
    done = compare(*words, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    document = read_comparison(tmp_path / "out")
    assert [m["name"] for m in document["metrics"]] == ["fid", "kid"]
    assert "24 samples" in " ".join(document["metrics"][0]["notes"])
    assert all(len(cell["quality"]["fid"]["values"]) == 1 for cell in document["cells"])


def test_ctrl_c_keeps_finished_cells(tmp_path):
    words = ["em", "--nfe", "20,4000", "--model", "mixture", "--n", "64", "--repeats", "1"]
    words += ["--out", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "ggf_cli", "compare", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + PATIENCE
    document = tmp_path / "compare.json"
    while time.monotonic() < deadline:
        if document.exists() and '"done"' in document.read_text():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, stderr
    assert "the same command continues" in stderr
    document = read_comparison(tmp_path)
    assert [cell["status"] for cell in document["cells"]] == ["done", "pending"]
    assert (tmp_path / "report.html").exists()


def test_the_plan_is_printed_before_drawing_and_costs_after_it(tmp_path):
    done = compare("adaptive", "em", *QUICK, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    plan, line = done.stderr, " ".join(done.stderr.split())
    assert plan.index("evaluations") < plan.index("em-nfe=20") < plan.index("expected error bar")
    # 8 samples, 2 repeats, 20 evaluations.
    assert re.search(r"em-nfe=20 20 2 × 8 320 [0-9.]+ s", line)
    costs = read_comparison(tmp_path)["costs"]
    assert re.search(
        r"2 × 8 samples \(float32, batch size 8, on cpu.*em nfe 20 .* images/s\)", costs[0]
    )
    assert "The comparison took" in costs[1]
    assert costs[0] in done.stdout
    time_ = read_comparison(tmp_path)["time"]
    assert 0 < time_["measuring_s"] < time_["planned_s"]
    assert time_["taken_s"] > 0


def test_impossible_requests_fail_before_torch_is_imported(tmp_path):
    for words, message in [
        (["--n", "16"], "--n is 16, and FFD needs 128 samples"),
        (["--metric", "fid"], "'fid' needs"),
        (["--budget", "10"], "10 of what"),
        (["--model", "nope"], "unknown model"),
        (["--reference", "nowhere"], "nowhere"),
    ]:
        code = (
            "import sys\nfrom ggf_cli.cli.app import app\n"
            f"try:\n    app(['compare', 'em', 'adaptive', *{words!r}])\n"
            "except SystemExit as end:\n    print(end.code, 'torch' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert done.stdout == "2 False\n"
        assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_budget_that_is_too_small_is_refused_without_a_terminal(tmp_path):
    words = ["em", "adaptive", "--model", "fashion-mixture", "--metric", "frechet"]
    done = compare(*words, "--budget", "1s", "--out", tmp_path / "a")
    assert done.exit_code == 2, done.output
    assert "the fewest samples for the metrics" in done.stderr
    assert not (tmp_path / "a").exists()


def test_a_comparison_whose_settings_all_failed_has_exit_code_4(tmp_path):
    (tmp_path / "nan.py").write_text(
        "import ggf_cli\n"
        "model = ggf_cli.ScoreModel(score=lambda x, t: x * float('nan'), sde=ggf_cli.VPSDE(),"
        " shape=(2,), data_range=None)\n"
    )
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(50, 2)))
    words = ["--model", tmp_path / "nan.py:model", "--reference", tmp_path / "data.npz"]
    done = compare("em", "--nfe", "5,9", *words, "--n", 8, "--out", tmp_path / "a")
    assert done.exit_code == 4, done.output
    assert "every setting failed: none of 8 samples reached the end" in done.stderr
    assert {c["status"] for c in read_comparison(tmp_path / "a")["cells"]} == {"failed"}
