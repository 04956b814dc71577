"""Resuming a run that was killed, stopped or damaged: the same files as without interruption."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys

import jsonschema
import msgspec
import numpy as np
import pytest
from msgspec import UNSET, structs

import ggf_cli
from command import RUN_SCHEMA, ggf
from ggf_cli.runs.documents import RunSettings, SampleLine, SpentLine
from ggf_cli.runs.resume import reproducibility_warnings, setting_changes
from ggf_cli.runs.run_log import as_ranges
from program import RUN, Program, content, kill_after, lines, until


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """{format: folder} of runs without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    for kind in ("png", "npz", "none"):
        done = ggf(*RUN, "--format", kind, "--out", folder / kind)
        assert done.exit_code == 0, done.output
    return folder


def begun(folder, *extra, samples=7):
    """A folder whose run was killed after some samples."""
    program = Program(*RUN, *extra, "--out", folder, log=folder.with_name(f"{folder.name}-log"))
    assert kill_after(program, folder, samples), program.stderr
    return folder


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    return begun(tmp_path_factory.mktemp("stopped") / "run", samples=12)


@pytest.fixture
def killed(stopped, tmp_path):
    """A separate folder whose run was killed after some samples."""
    return shutil.copytree(stopped, tmp_path / "run")


def journal(folder):
    return folder / "journal-0.jsonl"


# --- killed --------------------------------------------------------------------------------------


def killed_often(folder, log, kills, *extra):
    """Run a command to its end through `kills` kills; the samples that were kept at each start."""
    kept, count = [], 0
    while True:
        program = Program(*RUN, *extra, "--resume", "--out", folder, log=log)
        if count < kills and kill_after(program, folder, 1):
            count += 1
            kept.append(lines(folder))
            continue
        assert program.wait() == 0, program.stderr
        return kept


@pytest.mark.parametrize(("kind", "kills"), [("png", 6), ("npz", 2), ("none", 2)])
def test_a_killed_run_ends_with_the_files_of_an_uninterrupted_run(whole, tmp_path, kind, kills):
    kept = killed_often(tmp_path / "run", tmp_path / "log", kills, "--format", kind)
    assert len(kept) == kills
    # No finished sample is drawn again.
    assert kept == sorted(kept)
    assert content(tmp_path / "run") == content(whole / kind)
    log = json.loads((tmp_path / "run/run.json").read_text())
    jsonschema.validate(log, RUN_SCHEMA)
    assert sum(session["samples"] for session in log["sessions"]) == 36
    assert len({session["launch"] for session in log["sessions"]}) >= kills


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["png", "npz", "none"])
def test_a_hundred_kills_change_nothing(tmp_path, kind):
    many = ["--n", "800", "--format", kind]
    assert ggf(*RUN, *many, "--out", tmp_path / "whole").exit_code == 0
    kept = killed_often(tmp_path / "run", tmp_path / "log", 100, *many)
    assert len(kept) == 100
    assert kept == sorted(kept)
    assert content(tmp_path / "run") == content(tmp_path / "whole")


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform != "linux", reason="finds the journal in /proc")
@pytest.mark.parametrize("kind", ["png", "npz", "none"])
def test_a_kill_before_any_change_of_a_file_changes_nothing(tmp_path, monkeypatch, kind):
    """One run for each change.

    Folder, lock, journal, samples, .npz files, grid, run.json, and files removed at the end.
    """
    from ggf_cli.runs import sample_files

    monkeypatch.setattr(sample_files, "SHARD_SAMPLES", 4)
    command = [*RUN, "--n", "8", "--format", kind]
    assert ggf(*command, "--out", tmp_path / "whole").exit_code == 0
    expected = content(tmp_path / "whole")
    for change in range(1000):
        folder = tmp_path / str(change)
        program = Program(
            *command,
            "--out",
            folder,
            log=tmp_path / "log",
            GGF_TEST_SHARD="4",
            GGF_TEST_DIES_AT=str(change),
            GGF_TEST_DIES_IN=str(folder),
        )
        code = program.wait()
        if code == 0:
            break
        assert code == -signal.SIGKILL, program.stderr
        done = ggf(*command, "--resume", "--out", folder)
        assert done.exit_code == 0, (change, done.output)
        assert content(folder) == expected, change
    # File, rename and journal line of each sample, and more.
    assert change > 8 * 4


def test_files_left_by_a_kill_at_the_end_of_a_run_are_removed(whole, tmp_path):
    """`run.json` is complete; the journals of other ranks and the parts are not yet removed."""
    folder = shutil.copytree(whole / "none", tmp_path / "run")
    (folder / ".parts").mkdir()
    for name in (".parts/000003.npy", "journal-1.jsonl"):
        (folder / name).write_text("{}")
    assert ggf(*RUN, "--format", "none", "--resume", "--out", folder).exit_code == 0
    assert content(folder) == content(whole / "none")


def test_resuming_prints_how_many_samples_are_kept(killed):
    kept = lines(killed)
    done = ggf(*RUN, "--resume", "--out", killed)
    assert done.exit_code == 0
    assert f"resuming: {kept} of 36 samples are finished and kept" in done.stderr
    assert "drawn again" not in done.stderr


def test_show_mentions_resume_for_a_killed_run_and_sample_refuses_to_overwrite_it(killed):
    assert "--resume" in ggf("show", killed).stderr
    before = journal(killed).read_bytes()
    done = ggf(*RUN, "--out", killed)
    assert done.exit_code == 5
    assert "to continue its run add --resume" in done.stderr
    assert journal(killed).read_bytes() == before


def test_force_removes_the_files_of_a_killed_run(killed):
    done = ggf(
        "sample", "--model", "mixture", "--eps-rel", 0.5, "--n", 2, "--force", "--out", killed
    )
    assert done.exit_code == 0, done.output
    names = sorted(p.name for p in killed.rglob("*"))
    assert names == ["000000.png", "000001.png", "grid.png", "run.json", "samples"]


@pytest.fixture
def one_thread():
    """Use one thread: two threads on two busy cores wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_a_resumed_run_of_a_network_gives_equal_bits(tmp_path, monkeypatch):
    """Although the batches hold other samples, and the last batches are smaller."""
    from ggf_cli.runs.writer import RunWriter

    command = ["sample", "--model", "fashion-vp", "--solver", "em", "--steps", 5]
    command += ["--precision", "fp32", "--n", 14, "--batch-size", 4]
    assert ggf(*command, "--out", tmp_path / "whole").exit_code == 0
    add = RunWriter.add

    def dies(self, finished, *rest):
        if len(self.samples) == 5:
            raise MemoryError
        add(self, finished, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "add", dies)
        ggf(*command, "--out", tmp_path / "run")
    assert ggf(*command, "--resume", "--out", tmp_path / "run").exit_code == 0
    assert content(tmp_path / "run") == content(tmp_path / "whole")


# --- stopped -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_stopped_by_a_signal_is_recorded_and_can_be_resumed(whole, tmp_path, number):
    folder = tmp_path / "run"
    program = Program(*RUN, "--format", "npz", "--out", folder, log=tmp_path / "log")
    until(lambda: lines(folder) > 5)
    program.signal(number)
    assert program.wait() == 130, program.stderr
    log = json.loads((folder / "run.json").read_text())
    jsonschema.validate(log, RUN_SCHEMA)
    assert log["status"] == "interrupted"
    with np.load(folder / "samples.npz") as arrays:
        assert arrays["index"].tolist() == [s["index"] for s in log["samples"]]
    message = f"{len(log['samples'])} of 36 samples are in {folder}"
    assert f"{message}; the same command with --resume continues" in program.stderr
    done = ggf(*RUN, "--format", "npz", "--resume", "--out", folder)
    assert done.exit_code == 0, done.output
    assert content(folder) == content(whole / "npz")


def test_the_message_of_an_interrupted_run_without_out_names_its_folder(tmp_path, monkeypatch):
    from ggf_cli.engine import Engine

    def interrupted(engine, left, *rest, **more):
        # As after Ctrl-C before the first sample.
        return iter(())

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Engine, "run", interrupted)
    done = ggf(*RUN)
    assert done.exit_code == 130
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"the same command with --out runs/{folder.name} --resume continues" in done.stderr


# --- nothing to resume, or another run -----------------------------------------------------------


@pytest.mark.parametrize("there", ["nothing", "empty", "killed before its journal"])
def test_resume_starts_a_run_if_there_is_none(tmp_path, there):
    folder = tmp_path / "run"
    if there != "nothing":
        folder.mkdir()
    if there == "killed before its journal":
        (folder / ".running").touch()
        (folder / ".journal-0.jsonl.part").write_text('{"sch')
    done = ggf(*RUN, "--n", 4, "--resume", "--out", folder)
    assert done.exit_code == 0, done.output
    assert "resuming" not in done.stderr
    assert len(list((folder / "samples").iterdir())) == 4


def test_resume_refuses_a_folder_with_other_files(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    done = ggf(*RUN, "--resume", "--out", tmp_path)
    assert done.exit_code == 5
    assert "is not empty and holds no run" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]


def test_resume_needs_a_folder_and_excludes_force():
    assert "--resume needs the folder" in ggf(*RUN, "--resume").stderr
    assert "exclude each other" in ggf(*RUN, "--resume", "--force", "--out", "x").stderr


def test_resume_does_not_change_a_completed_run(whole, tmp_path):
    folder = shutil.copytree(whole / "png", tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    done = ggf(*RUN, "--resume", "--out", folder)
    assert done.exit_code == 0
    assert "has ended; there is nothing left to draw" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()} == before


def test_a_run_with_lost_samples_has_ended_too(tmp_path):
    command = [*RUN, "--n", 4, "--max-nfe", 41, "--out", tmp_path / "run"]
    first = ggf(*command)
    log = json.loads((tmp_path / "run/run.json").read_text())
    assert {s["status"] for s in log["samples"]} == {"done", "max_nfe"}
    again = ggf(*command, "--resume")
    assert first.exit_code == again.exit_code == 4
    assert "nothing left to draw" in again.stderr
    assert "ran out of evaluations" in again.stderr
    assert json.loads((tmp_path / "run/run.json").read_text()) == log


def test_lost_samples_of_a_killed_run_are_not_drawn_again(tmp_path):
    options = ["--max-nfe", "40"]
    assert ggf(*RUN, *options, "--out", tmp_path / "whole").exit_code == 4
    folder = begun(tmp_path / "run", *options, samples=20)
    done = ggf(*RUN, *options, "--resume", "--out", folder)
    assert done.exit_code == 4
    assert content(folder) == content(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--seed", 1], "--seed was 0, is 1"),
        (["--n", 35], "--indices was 0-35, is 0-34"),
        (["--batch-size", 4], "--batch-size was 6, is 4"),
        (["--eps-rel", 0.4], "--eps-rel was 0.5, is 0.4"),
        (["--max-nfe", 999], "--max-nfe was 10000, is 999"),
        (["--t-eps", 0.01], "--t-eps was 0.001, is 0.01"),
        (["--format", "npz"], "--format was png, is npz"),
        (["--grid", "2x2"], "--grid was 6x6, is 2x2"),
        (["--model", "fashion-mixture"], "the model was "),
    ],
    ids=lambda value: None if isinstance(value, str) else value[0],
)
def test_resume_with_other_settings_is_refused(whole, stopped, changed, message):
    """Both for a killed run, with a journal, and for a completed run."""
    for folder in (whole / "png", stopped):
        (folder / ".running").unlink(missing_ok=True)
        before = sorted(p.name for p in folder.rglob("*"))
        done = ggf(*RUN, *changed, "--resume", "--out", folder)
        assert done.exit_code == 5
        assert "holds a run with other settings" in done.stderr
        assert message in done.stderr
        assert sorted(p.name for p in folder.rglob("*")) == before


def test_resume_with_another_solver_is_refused(whole):
    command = ["sample", "--model", "mixture", "--n", 36, "--batch-size", 6, "--solver", "em"]
    done = ggf(*command, "--steps", 5, "--resume", "--out", whole / "png")
    assert done.exit_code == 5
    assert "--solver was adaptive, is em" in done.stderr
    assert "--steps" not in done.stderr


# --- damaged -------------------------------------------------------------------------------------

DAMAGED = [
    b'{"index":35,"nfe":4',
    b"\0" * 300,
    b"]\n",
    b"\xff\xfe\n",
    b"[" * 9999 + b"\n",
    b'{"index":-1}\n',
]


@pytest.mark.parametrize("tail", DAMAGED)
def test_a_damaged_end_of_the_journal_is_dropped(whole, killed, tail):
    with journal(killed).open("ab") as file:
        file.write(tail)
    assert ggf(*RUN, "--resume", "--out", killed).exit_code == 0
    assert content(killed) == content(whole / "png")


def test_a_truncated_journal_is_read(whole, killed):
    text = journal(killed).read_bytes()
    first = text.index(b"\n") + 1
    journal(killed).write_bytes(text[: (first + len(text)) // 2])
    assert ggf(*RUN, "--resume", "--out", killed).exit_code == 0
    assert content(killed) == content(whole / "png")


def test_a_journal_with_another_schema_is_refused(killed):
    journal(killed).write_text('{"schema": "other"}\n')
    done = ggf(*RUN, "--resume", "--out", killed)
    assert done.exit_code == 5
    assert "is damaged or no journal" in done.stderr


@pytest.mark.parametrize("kind", ["png", "npz"])
def test_samples_with_damaged_or_missing_files_are_drawn_again(whole, tmp_path, kind):
    """As after a power failure."""
    folder = begun(tmp_path / "run", "--format", kind)
    finished = [json.loads(line) for line in journal(folder).read_text().splitlines()]
    first, second = [line["index"] for line in finished if "index" in line][:2]
    where, suffix = ("samples", "png") if kind == "png" else (".parts", "npy")
    (folder / where / f"{first:06d}.{suffix}").write_bytes(b"")
    (folder / where / f"{second:06d}.{suffix}").unlink()
    done = ggf(*RUN, "--format", kind, "--resume", "--out", folder)
    assert done.exit_code == 0
    assert (
        "2 more were finished, but their files are missing or changed: drawn again" in done.stderr
    )
    assert content(folder) == content(whole / kind)


def test_an_npz_shard_is_written_as_soon_as_its_samples_are_finished(tmp_path, monkeypatch):
    from ggf_cli.runs import sample_files
    from ggf_cli.runs.writer import RunWriter

    monkeypatch.setattr(sample_files, "SHARD_SAMPLES", 16)
    command = [*RUN, "--format", "npz"]
    assert ggf(*command, "--out", tmp_path / "whole").exit_code == 0
    names = [f"samples-{k:05d}-of-00003.npz" for k in range(3)]
    assert sorted(p.name for p in (tmp_path / "whole").glob("*.npz")) == names
    with np.load(tmp_path / "whole" / names[2]) as last:
        assert last["index"].tolist() == [32, 33, 34, 35]

    add = RunWriter.add

    def dies(self, finished, *rest):
        if len(self.samples) == 30:
            raise MemoryError("killed")
        add(self, finished, *rest)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "add", dies)
        assert ggf(*command, "--out", folder).exit_code != 0
    # All samples of the first shard were finished.
    shard = (folder / names[0]).stat().st_mtime_ns
    assert '"shard"' in journal(folder).read_text()
    assert not (folder / ".parts/000000.npy").exists()
    done = ggf(*command, "--resume", "--out", folder)
    assert done.exit_code == 0, done.output
    assert "resuming: 30 of 36" in done.stderr
    assert (folder / names[0]).stat().st_mtime_ns == shard
    assert content(folder) == content(tmp_path / "whole")


def test_the_samples_of_a_damaged_shard_are_drawn_again(tmp_path, monkeypatch):
    from ggf_cli.runs import sample_files
    from ggf_cli.runs.writer import RunWriter

    monkeypatch.setattr(sample_files, "SHARD_SAMPLES", 8)
    command = [*RUN, "--n", 24, "--format", "npz"]
    ggf(*command, "--out", tmp_path / "whole")
    monkeypatch.setattr(RunWriter, "close", lambda self, text: 1 / 0)
    ggf(*command, "--out", tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setattr(sample_files, "SHARD_SAMPLES", 8)
    (tmp_path / "run/samples-00001-of-00003.npz").write_bytes(b"PK")
    done = ggf(*command, "--resume", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "resuming: 16 of 24" in done.stderr
    assert content(tmp_path / "run") == content(tmp_path / "whole")


# --- disk and folder -----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "ggf-test", place]
    try:
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("file systems cannot be mounted here")
    except FileNotFoundError:
        pytest.skip("the command mount is missing")
    yield place
    subprocess.run(["umount", place], check=True)


def test_finished_samples_are_kept_if_the_disk_is_full(whole, small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 320_000)
    done = ggf(*RUN, "--out", small_disk / "run")
    assert done.exit_code == 5
    assert "no space left while writing" in done.stderr
    kept = lines(small_disk / "run")
    assert 0 < kept < 36
    ballast.unlink()
    done = ggf(*RUN, "--resume", "--out", small_disk / "run")
    assert done.exit_code == 0, done.output
    assert f"resuming: {kept} of 36" in done.stderr
    assert content(small_disk / "run") == content(whole / "png")


def settings_of(folder, **changes):
    """The settings of a small run, changed."""
    log = ggf_cli.run(
        ggf_cli.load_model("mixture", device="cpu"), 1, out=folder / "run", force=True
    ).log
    return structs.replace(log, **changes)


def line(index):
    """The journal line of a finished sample."""
    return SampleLine(index=index, nfe=1, accepted=1, rejected=0, status="done", sha256=None)


def test_a_journal_on_a_full_disk_keeps_whole_lines(tmp_path):
    """A limit on the size of files stops the write in the middle of a line."""
    from ggf_cli.errors import OutputError
    from ggf_cli.runs.history import read_history
    from ggf_cli.runs.journal import Journal

    log = Journal(tmp_path, settings_of(tmp_path / "other", num_samples=9))
    log.append(line(0))
    size = journal(tmp_path).stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
    try:
        with pytest.raises(OutputError, match=r"journal-0.jsonl"):
            log.append(line(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert journal(tmp_path).stat().st_size == size
    log.append(line(2))
    assert list(read_history(tmp_path).records) == [0, 2]


def test_lines_after_a_truncated_line_are_read(tmp_path):
    from ggf_cli.runs.history import read_history
    from ggf_cli.runs.journal import Journal

    settings = settings_of(tmp_path / "other", num_samples=9)
    for index in range(3):
        log = Journal(tmp_path, settings)
        log.append(line(index))
        log.close()
        with journal(tmp_path).open("ab") as file:
            file.write(b'{"index":7,"nf')
    assert list(read_history(tmp_path).records) == [0, 1, 2]


def test_a_read_only_folder_exits_5(small_disk):
    (small_disk / "run").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for extra in ([], ["--resume"]):
        done = ggf(*RUN, *extra, "--out", small_disk / "run")
        assert done.exit_code == 5
        assert "is not writable" in done.stderr or "cannot write to" in done.stderr


def test_resume_of_a_folder_in_use_is_refused(tmp_path):
    folder = tmp_path / "run"
    program = Program(*RUN, "--n", 2000, "--out", folder, log=tmp_path / "log")
    until(lambda: lines(folder) > 2)
    done = ggf(*RUN, "--n", 2000, "--resume", "--out", folder)
    program.process.kill()
    program.wait()
    assert done.exit_code == 5
    assert "another run is writing to" in done.stderr


def test_files_and_journal_are_synced_to_the_disk(tmp_path, monkeypatch):
    """The files of samples before the journal that lists them, once a second on a fast disk."""
    from ggf_cli.runs import journal as module

    settings = settings_of(tmp_path / "other", num_samples=9)
    synced = []
    real = os.fsync
    monkeypatch.setattr(module, "flush", lambda path: synced.append(path.name))
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append("journal"), real(fd)))
    clock = [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    log = module.Journal(tmp_path, settings)
    synced.clear()
    log.append(SpentLine(spent=(1, 1, 1.0)), tmp_path / "a.png")
    assert synced == []
    clock[0] = 1.5
    log.append(SpentLine(spent=(2, 2, 2.0)), tmp_path / "b.png")
    assert synced == ["a.png", "b.png", tmp_path.name, "journal"]


def test_resuming_a_run_without_a_recorded_noise_name_gives_a_warning(tmp_path):
    now = settings_of(tmp_path, noise="philox, 2", versions={"torch": "2"})
    before = settings_of(tmp_path, noise=UNSET, versions={"torch": "2"})
    assert reproducibility_warnings(now, now) == []
    [warning] = reproducibility_warnings(before, now)
    assert "the noise was that of the maths library, is philox, 2" in warning


# --- helpers of the program ----------------------------------------------------------------------


@pytest.mark.parametrize("indices", [[0], [0, 1, 2], [9, 2, 3], [5, 4, 3], [1, 3, 4, 5, 9, 10]])
def test_as_ranges_is_the_inverse_of_parse_indices(indices):
    from ggf_cli.cli.values import parse_indices

    assert parse_indices(as_ranges(indices)) == indices


def test_all_levels_survive_the_conversion_to_bytes():
    import torch

    from ggf_cli.runs.images import to_uint8

    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    assert (to_uint8(levels.float() / 255) == levels.permute(1, 2, 0).numpy()).all()


def test_step_times_that_an_earlier_version_wrote_as_text_are_the_same_setting(tmp_path):
    times = (1.0, 0.5, 0.001)
    model = ggf_cli.load_model("mixture", device="cpu")
    options = {"solver": "adaptive-multistep", "times": times, "format": "none"}
    log = ggf_cli.run(model, 1, out=tmp_path / "run", **options).log
    earlier = msgspec.convert(msgspec.to_builtins(log), RunSettings)
    earlier.solver.options["times"] = "1.0,0.5,0.001"
    assert setting_changes(earlier, log) == []
    earlier.solver.options["times"] = "1.0,0.4,0.001"
    assert setting_changes(earlier, log) == ["`times` was 1.0,0.4,0.001, is 1.0,0.5,0.001"]
