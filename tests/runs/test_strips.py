"""Trajectories of a run: strips and an animation, in resumed runs and with several processes."""

import io
import json

import numpy as np
import pytest
from PIL import Image

import ggf_cli
from command import ggf
from ggf_cli.errors import OutputError, UsageError
from observers import Interrupt
from program import RUN, content, job

SETTINGS = {"eps_rel": 0.5, "batch_size": 2, "trajectory": 4}
WORDS = ["sample", "--model", "mixture", "--n", "5", "--eps-rel", "0.5", "--batch-size", "2"]
WORDS += ["--trajectory", "4"]


@pytest.fixture(scope="module")
def model():
    return ggf_cli.load_model("mixture")


def files(folder):
    """{path: content} of the images of trajectories."""
    found = [*folder.glob("trajectories/*.png"), *folder.glob("trajectory.webp")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(found)}


@pytest.mark.parametrize("format", ["png", "npz", "none"])
def test_a_strip_has_the_states_above_and_the_denoised_estimates_below(format, model, tmp_path):
    log = ggf_cli.run(model, 5, out=tmp_path / "a", format=format, **SETTINGS).log
    drawn = files(tmp_path / "a")
    names = [f"trajectories/{index:06d}.png" for index in range(5)]
    assert sorted(drawn) == [*names, "trajectory.webp"]
    assert set(drawn) <= {file.path for file in log.files}
    assert log.trajectory == 4
    height, width = model.shape[1:]
    scale = -(-64 // max(height, width))
    result = ggf_cli.sample(model, 5, eps_rel=0.5, batch_size=2, trajectory=4)
    for index in range(5):
        strip = np.asarray(Image.open(io.BytesIO(drawn[names[index]])))
        assert strip.shape[:2] == (2 * (scale * height + 2) + 2, 4 * (scale * width + 2) + 2)
        rows = result.trajectory.x[index], result.trajectory.denoised[index]
        for row, states in enumerate(rows):
            for level, state in enumerate(model.sde.to_unit_range(states)):
                top, left = 2 + row * (scale * height + 2), 2 + level * (scale * width + 2)
                tile = strip[
                    top : top + scale * height : scale, left : left + scale * width : scale
                ]
                assert (tile == np.rint(state.permute(1, 2, 0).numpy() * 255)).all()


def test_the_animation_ends_with_the_grid(model, tmp_path):
    ggf_cli.run(model, 5, out=tmp_path / "a", **SETTINGS)
    with Image.open(tmp_path / "a/trajectory.webp") as animation:
        assert animation.n_frames == 4
        animation.seek(3)
        last = np.asarray(animation.convert("L"))
    assert (last == np.asarray(Image.open(tmp_path / "a/grid.png").convert("L"))).all()


def test_only_the_samples_on_the_grid_have_strips(model, tmp_path):
    log = ggf_cli.run(model, 5, out=tmp_path / "a", grid=(1, 2), **SETTINGS).log
    assert len(files(tmp_path / "a")) == 3
    assert sum(file.path.startswith("samples/") for file in log.files) == 5


@pytest.mark.parametrize("format", ["png", "none"])
def test_a_resumed_run_has_the_same_strips(format, model, tmp_path):
    settings = SETTINGS | {"format": format}
    ggf_cli.run(model, 5, out=tmp_path / "whole", **settings)
    part = tmp_path / "part"
    with pytest.raises(KeyboardInterrupt):
        ggf_cli.run(model, 5, out=part, observer=Interrupt(3), **settings)
    kept = sorted(part.glob("trajectories/*.png"))
    assert len(kept) >= 3
    kept[0].write_bytes(b"damaged")
    kept[1].unlink()
    with pytest.raises(OutputError, match="`trajectory` was 4, is 5"):
        ggf_cli.run(model, 5, out=part, resume=True, **settings | {"trajectory": 5})
    log = ggf_cli.run(model, 5, out=part, resume=True, **settings).log
    assert len(log.samples) == 5
    assert files(part) == files(tmp_path / "whole")


def test_trajectories_on_the_command_line(tmp_path):
    done = ggf(*WORDS, "--out", tmp_path / "a")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [
        str(tmp_path / "a/trajectory.webp"),
        str(tmp_path / "a/grid.png"),
    ]
    log = json.loads((tmp_path / "a/run.json").read_text())
    assert "--trajectory 4" in log["command"]
    assert ggf("show", tmp_path / "a", "--check").exit_code == 0
    for image in ("trajectory.webp", "trajectories/000003.png"):
        shown = ggf("show", tmp_path / "a" / image)
        assert shown.exit_code == 0, shown.stderr
        assert "mixture" in shown.stdout
    again = ggf("show", tmp_path / "a", "--repeat", "--out", tmp_path / "b")
    assert "12 of the 12 files are identical" in again.stderr
    assert ggf(*WORDS[:-2], "--out", tmp_path / "a", "--force").exit_code == 0
    assert files(tmp_path / "a") == {}


def test_a_webp_of_another_program_is_no_run(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "other.webp")
    done = ggf("show", tmp_path / "other.webp")
    assert done.exit_code == 2
    assert "has no command in its text" in done.stderr


def test_trajectories_need_images_and_room(model, tmp_path):
    plain = ggf_cli.ScoreModel(
        score=lambda x, t: -x, sde=ggf_cli.VPSDE(), shape=(2,), data_range=None
    )
    with pytest.raises(UsageError, match="are not images, so their trajectories are not drawn"):
        ggf_cli.run(plain, 2, out=tmp_path / "a", format="npz", trajectory=4)
    with pytest.raises(UsageError, match="too many for an animation"):
        ggf_cli.run(model, 2, out=tmp_path / "a", trajectory=10_000, grid=(9, 9))
    with pytest.raises(UsageError, match="`trajectory` is 1"):
        ggf_cli.run(model, 2, out=tmp_path / "a", trajectory=1)
    assert not (tmp_path / "a").exists()


def test_two_processes_draw_the_same_strips(tmp_path):
    words = [*RUN, "--trajectory", "3", "--grid", "2x6"]
    assert ggf(*words, "--out", tmp_path / "whole").exit_code == 0
    programs = job(2, [*words, "--out", tmp_path / "two"], tmp_path / "log")
    assert [program.wait() for program in programs] == [0, 0]
    assert content(tmp_path / "two") == content(tmp_path / "whole")
    assert len(files(tmp_path / "two")) == 13
