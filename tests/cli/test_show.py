"""`ggf show`: summaries, `--check`, `--repeat`, invalid input, comparisons and the histogram."""

import json
import os
import shutil
import subprocess
import sys
import tracemalloc

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import comparisons
from command import RUN_SCHEMA, ggf
from ggf_cli.comparison.report import write_outputs
from ggf_cli.runs import documents
from ggf_cli.runs.histogram import histogram
from ggf_cli.runs.load import MAX_LOG, MAX_TEXT, find_record
from ggf_cli.runs.summary import run_summary
from png_files import png_chunk

VALIDATOR = jsonschema.Draft202012Validator(RUN_SCHEMA)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    out = tmp_path_factory.mktemp("show") / "run"
    done = ggf("sample", "--model", "mixture", "--n", 4, "--eps-rel", 0.5, "--quiet", "--out", out)
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture
def run(original, tmp_path):
    """A copy of a run, which a test may damage."""
    return shutil.copytree(original, tmp_path / "run")


def read(run, name="run.json"):
    return json.loads((run / name).read_text())


def edit(run, **changes):
    (run / "run.json").write_text(json.dumps({**read(run), **changes}))


# --- summary --------------------------------------------------------------------------------------


def test_the_summary_of_a_run_contains_a_histogram_and_the_command(original):
    done = ggf("show", original)
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    log, text = read(original), done.stdout
    words = ["completed", "mixture", "VP", "adaptive", "seed 0", "batch size 4", "4 of 4"]
    words += [log["device"], log["versions"]["torch"], f"mean {log['nfe']['mean']:.1f}"]
    words += [f"{log['steps']['rejected']} rejected", f"utilisation {log['utilisation']:.1%}"]
    for word in words:
        assert word in text, word
    assert "NFE of 4 samples\n" in text
    assert text.splitlines()[-1] == log["command"]


def summary(log):
    """The summary of a run log that is given as JSON data."""
    return run_summary(msgspec.convert(log, documents.RunLog))


def test_changed_options_are_listed_separately(original):
    facts = dict(summary(read(original)))
    assert facts["changed"] == "--eps-rel 0.5 (default 0.02)"
    # The default of the model, so not a change.
    assert "--eps-abs 0.0078125" in facts["default"]
    log = read(original)
    log["solver"]["options"] |= {"eps_abs": 0.1, "denoise": False, "eps_rel": 0.02}
    changed = dict(summary(log))["changed"]
    assert "--eps-abs 0.1 (default 0.0078125)" in changed
    assert "--no-denoise (default --denoise)" in changed
    assert "eps-rel" not in changed


def test_an_unknown_solver_is_listed_without_defaults(original):
    log = read(original)
    log["solver"] = {"name": "tomorrow", "options": {"zeal": [1.5], "warp": True}}
    facts = dict(summary(log))
    assert facts["default"] == "--zeal 1.5 · --warp"
    assert "changed" not in facts


def test_unknown_statistics_of_the_nfe_are_ignored(original):
    log = read(original)
    known = dict(summary(log))["NFE"]
    log["nfe"] |= {"p99": [1, 2]}
    assert dict(summary(log))["NFE"] == known


def test_failed_samples_are_listed(run):
    samples = read(run)["samples"]
    samples[2]["status"] = "non_finite"
    edit(run, samples=samples, status="failed")
    text = ggf("show", run).stdout
    assert f"1: 2 (non_finite after {samples[2]['nfe']} evaluations)" in text
    assert "3 of 4" in text


def test_a_run_without_samples_has_a_summary(run):
    nfe = dict.fromkeys(("mean", "min", "p50", "p95", "max")) | {"total": 0}
    edit(run, samples=[], files=[], nfe=nfe, status="interrupted", peak_memory_bytes=None)
    done = ggf("show", run)
    assert done.exit_code == 0, done.output
    assert "0 of 4" in done.stdout
    assert "NFE" not in done.stdout


def test_output_without_unicode_is_ascii(original):
    command = [sys.executable, "-m", "ggf_cli", "show", str(original)]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=ascii_only, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "3x16x16" in done.stdout
    assert "####" in done.stdout
    assert "?" not in done.stdout


def test_control_characters_of_a_log_are_not_printed(run):
    log = read(run)
    log["model"]["name"] = "[bold]a\x1b[2Jb"
    edit(run, model=log["model"], command="ggf sample \x1b[31m")
    text = ggf("show", run).stdout
    assert "\x1b" not in text
    assert "[bold]a\ufffd[2Jb" in text


def test_json_prints_the_document(original):
    done = ggf("show", original, "--json")
    assert json.loads(done.stdout) == read(original)
    VALIDATOR.validate(json.loads(done.stdout))


@pytest.mark.parametrize("name", ["run.json", "grid.png", "samples/000002.png"])
def test_every_file_of_a_run_can_be_given(original, name, monkeypatch):
    assert json.loads(ggf("show", original / name, "--json").stdout) == read(original)
    file = original / name
    monkeypatch.chdir(file.parent)
    assert json.loads(ggf("show", file.name, "--json").stdout) == read(original)


def test_the_image_of_a_sample_is_shown_with_its_index_and_nfe(original):
    nfe = read(original)["samples"][2]["nfe"]
    assert f"sample 2 · NFE {nfe} ·" in ggf("show", original / "samples/000002.png").stdout


def test_a_grid_without_its_run_is_shown_with_its_command(original, tmp_path):
    grid = shutil.copy(original / "grid.png", tmp_path / "alone.png")
    done = ggf("show", grid)
    command = read(original)["command"]
    assert done.stdout.splitlines()[-1] == command
    assert "ggf-cli" in done.stdout
    assert "no run.json beside the image lists it" in done.stderr
    assert json.loads(ggf("show", grid, "--json").stdout)["command"] == command


def test_a_replaced_image_is_not_shown_as_part_of_the_run(run):
    Image.new("L", (4, 4)).save(run / "samples/000002.png")
    done = ggf("show", run / "samples/000002.png")
    assert done.exit_code == 2
    assert "it is not the image that" in done.stderr
    (run / "grid.png").write_bytes((run / "grid.png").read_bytes() + b"more")
    # The image is changed, but its text is still there.
    done = ggf("show", run / "grid.png")
    assert done.exit_code == 0
    assert "it is not the image that" in done.stderr
    assert "sampling" not in done.stdout


def test_text_rewritten_by_another_program_is_read(tmp_path):
    text = PngInfo()
    # A tEXt chunk; `ggf` itself writes iTXt.
    text.add_text("ggf", "ggf sample --n 2")
    Image.new("L", (4, 4)).save(tmp_path / "a.png", pnginfo=text)
    assert ggf("show", tmp_path / "a.png").stdout.splitlines()[-1] == "ggf sample --n 2"


def test_a_grid_beside_a_damaged_log_is_shown(run):
    (run / "run.json").write_text("{")
    done = ggf("show", run / "grid.png")
    assert done.exit_code == 0
    assert "not used:" in done.stderr
    assert "ggf sample --model mixture" in done.stdout


# --- `--check` ------------------------------------------------------------------------------------


def test_an_intact_run_passes_the_check(original):
    done = ggf("show", original, "--check")
    assert (done.exit_code, done.stdout) == (0, "5 of 5 files intact\n")


def test_the_check_lists_missing_and_altered_files_and_exits_5(run):
    (run / "samples/000001.png").unlink()
    (run / "grid.png").write_bytes(b"x")
    (run / "samples/000003.png").unlink()
    (run / "samples/000003.png").mkdir()
    done = ggf("show", run, "--check")
    assert done.exit_code == 5
    assert done.stdout.splitlines() == [
        "altered    grid.png",
        "missing    samples/000001.png",
        "altered    samples/000003.png",
        "2 of 5 files intact",
    ]
    assert "3 of the 5 files" in done.stderr
    assert "--repeat" in done.stderr
    states = json.loads(ggf("show", run, "--check", "--json").stdout)["files"]
    assert [name for name, state in states.items() if state == "missing"] == ["samples/000001.png"]


def test_the_check_accepts_any_file_name(run):
    listed = [{"path": name, "sha256": "0" * 64} for name in ("a\0b", "\ud800", "n" * 5000, "")]
    edit(run, files=listed)
    done = ggf("show", run, "--check")
    assert done.exit_code == 5
    assert "0 of 4 files intact" in done.stdout


def test_a_grid_alone_cannot_be_checked(original, tmp_path):
    done = ggf("show", shutil.copy(original / "grid.png", tmp_path), "--check")
    assert done.exit_code == 2
    assert "--check needs the run's folder" in done.stderr


# --- `--repeat` -----------------------------------------------------------------------------------


def test_repeat_draws_the_same_files_into_a_new_folder(original, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {p: p.read_bytes() for p in original.rglob("*") if p.is_file()}
    done = ggf("show", original, "--repeat")
    assert done.exit_code == 0, done.output
    assert "5 of the 5 files are identical to the run's" in done.stderr
    assert "runs/run-again/grid.png" in done.stdout
    # There is no warning about changed versions.
    assert "it was" not in done.stderr
    for path, content in before.items():
        again = tmp_path / "runs/run-again" / path.relative_to(original)
        assert path.read_bytes() == content
        assert path.name == "run.json" or again.read_bytes() == content
    done = ggf("show", "runs/run-again/grid.png", "--repeat", "--json")
    assert json.loads(done.stdout) == read(tmp_path / "runs/run-again-again")


def test_repeat_warns_of_changed_versions(run, tmp_path):
    edit(run, versions={"ggf-cli": "0.0.1", "python": "2.7", "thing": "1"})
    done = ggf("show", run, "--repeat", "--out", tmp_path / "again")
    assert done.exit_code == 0, done.output
    assert "it was 0.0.1: the samples may differ" in done.stderr
    assert "it was 2.7" in done.stderr
    assert "thing is not installed" in done.stderr


def test_repeat_overwrites_nothing_for_any_command(run, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/a.txt").write_text("x")
    forged = f"{read(run)['command']} --n 1 --force --out {tmp_path / 'precious'}"
    edit(run, command=forged)
    for target in (run, tmp_path / "precious"):
        done = ggf("show", run, "--repeat", "--out", target)
        assert done.exit_code == 5
        assert "is not empty" in done.stderr
        assert "--force" not in done.stderr.split("error:")[1]
    done = ggf("show", run, "--repeat", "--out", tmp_path / "new")
    assert done.exit_code == 0, done.output
    assert [p.name for p in (tmp_path / "precious").iterdir()] == ["a.txt"]
    assert (tmp_path / "new/grid.png").exists()


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf .",
        "ggf download church",
        "ggf sample 'open",
        "",
        "ggf",
        "sample",
        "/bin/ggf sample",
        "ggf show run --repeat",
        "ggf --version sample",
    ],
)
def test_only_ggf_sample_is_repeated(run, tmp_path, command):
    edit(run, command=command)
    done = ggf("show", run, "--repeat", "--out", tmp_path / "new")
    assert done.exit_code == 2
    assert "is not ggf sample" in done.stderr
    assert not (tmp_path / "new").exists()


def test_a_command_is_not_run_by_a_shell(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    edit(run, command="ggf sample --n 1; touch pwned")
    assert ggf("show", run, "--repeat").exit_code == 2
    edit(run, command="ggf sample --model '$(touch pwned)'")
    assert ggf("show", run, "--repeat").exit_code == 2
    assert not (tmp_path / "pwned").exists()


def test_options_that_exclude_each_other_exit_2(original, tmp_path):
    assert ggf("show", original, "--check", "--repeat").exit_code == 2
    assert ggf("show", original, "--out", tmp_path).exit_code == 2
    assert ggf("show").exit_code == 2


# --- bad input ------------------------------------------------------------------------------------


def test_a_path_that_is_no_run_exits_2_with_a_hint(tmp_path, original):
    Image.new("L", (4, 4)).save(tmp_path / "other.png")
    Image.new("L", (4, 4)).save(tmp_path / "photo.jpg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "going").mkdir()
    (tmp_path / "going/.running").touch()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "later.json").write_text('{"schema": "ggf-run/9"}')
    os.mkfifo(tmp_path / "pipe")
    for name, message in {
        "nothing": "no such file or folder",
        "empty": "has no run.json",
        "going": "has not ended",
        "notes.txt": "is neither a run.json nor an image of a run",
        "photo.jpg": "is neither a run.json nor an image of a run",
        "pipe": "is neither a file nor a folder",
        "list.json": "is JSON, but not a log of ggf sample",
        "later.json": "is of schema 'ggf-run/9'",
        "other.png": "has no command in its text",
        "n" * 5000: "cannot read",
    }.items():
        done = ggf("show", tmp_path / name)
        assert done.exit_code == 2, (name, done.output)
        assert message in done.stderr, name
        assert "hint: " in done.stderr
        assert done.stdout == ""
    assert f"ggf show {original}" in ggf("show", original.parent).stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read_exits_2(run):
    (run / "run.json").chmod(0)
    done = ggf("show", run)
    assert done.exit_code == 2
    assert "Permission denied" in done.stderr


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, '{"a": NaN}', '{"a": 1e999}', f'{{"a": {"9" * 5000}}}', "\xff"]
)
def test_a_run_json_that_is_not_json_exits_5(run, text):
    (run / "run.json").write_text(text, encoding="latin-1")
    done = ggf("show", run)
    assert done.exit_code == 5
    assert "is not JSON" in done.stderr
    assert f"hint: ggf show {run / 'grid.png'} prints the command" in done.stderr


def test_a_truncated_run_json_exits_5(run):
    text = (run / "run.json").read_text()
    for end in range(0, len(text) - 2, 97):
        (run / "run.json").write_text(text[:end])
        assert ggf("show", run).exit_code == 5, end


def paths_of(value, path=()):
    """Yield the path of keys to each value inside a JSON document."""
    yield path
    if isinstance(value, list):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths_of(item, (*path, key))


JUNK = st.sampled_from(
    [None, True, -1, 0, 2**70, 1e300, "", "x", "\x1b[2J\ud800", [], [0], {}, {"a": [None]}]
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_edit_of_a_run_json_is_shown_or_refused(run, original, data):
    log = read(original)
    path = data.draw(st.sampled_from([p for p in paths_of(log) if p]))
    *way, last = path
    inner = log
    for key in way:
        inner = inner[key]
    if data.draw(st.booleans()):
        del inner[last]
    else:
        inner[last] = data.draw(JUNK)
    (run / "run.json").write_text(json.dumps(log))
    done = ggf("show", run, *data.draw(st.sampled_from([(), ("--check",), ("--json",)])))
    assert done.exit_code in (0, 2, 5), (done.exception, done.output)
    if done.exit_code:
        assert "hint: " in done.stderr
    else:
        VALIDATOR.validate(log)


def test_unknown_keys_of_a_run_json_are_kept(run):
    edit(run, mood="good")
    assert json.loads(ggf("show", run, "--json").stdout)["mood"] == "good"


@pytest.mark.parametrize("cut", [8, 9, 20, 60, 200])
def test_a_truncated_png_exits_2(original, tmp_path, cut):
    (tmp_path / "a.png").write_bytes((original / "grid.png").read_bytes()[:cut])
    done = ggf("show", tmp_path / "a.png")
    assert done.exit_code == 2
    assert "hint: " in done.stderr


def peak_of(function):
    """The peak of the memory that Python allocated during a call, in bytes."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_large_image_is_not_read_into_memory(tmp_path):
    """The text comes after 100 MB of pixels."""
    image, size = tmp_path / "grid.png", 100_000_000
    with image.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + size.to_bytes(4) + b"IDAT")
        # A hole in the file, in place of pixels.
        file.seek(size + 4, os.SEEK_CUR)
        file.write(png_chunk(b"tEXt", b"ggf\0ggf sample --n 3"))
    found = []
    assert peak_of(lambda: found.append(find_record(image))) < 5_000_000
    assert found[0].command == "ggf sample --n 3"


def test_text_chunks_of_excessive_length_are_not_read(tmp_path):
    image = tmp_path / "grid.png"
    long = png_chunk(b"tEXt", b"ggf\0" + b"x" * MAX_TEXT)
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + long + png_chunk(b"tEXt", b"ggf\0ggf sample --n 3"))
    assert find_record(image).command == "ggf sample --n 3"
    short = png_chunk(b"tEXt", b"ggf\0" + b"x" * 1000)
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + short * 5000 + long)
    assert peak_of(lambda: find_record(image)) < 5_000_000


@pytest.mark.parametrize("place", ["alone", "beside a sample"])
def test_a_log_of_excessive_size_is_not_read(run, place):
    with (run / "run.json").open("r+b") as file:
        file.truncate(MAX_LOG + 1)
    if place == "alone":
        done = ggf("show", run)
        assert done.exit_code == 2
        assert "has more than 536,870,912 bytes" in done.stderr
    # The grid itself holds its command.
    else:
        done = ggf("show", run / "grid.png")
        assert done.exit_code == 0
        assert "has more than" in done.stderr


def test_show_imports_nothing_heavy(original, compared, tmp_path):
    alone = shutil.copy(original / "grid.png", tmp_path / "alone.png")
    calls = [[str(original)], [str(original), "--check"], [str(alone)], [str(compared)], ["--help"]]
    code = f"""
import sys
from ggf_cli.cli.app import app
for argv in {calls!r}:
    app(["show", *argv], standalone_mode=False)
heavy = {{"torch", "numpy", "matplotlib", "PIL", "jsonschema"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- comparisons ----------------------------------------------------------------------------------


@pytest.fixture
def compared(tmp_path):
    folder = tmp_path / "compared"
    write_outputs(comparisons.fashion(), {}, folder)
    return folder


@pytest.mark.parametrize("name", ["", "compare.json"])
def test_the_summary_of_a_comparison_contains_table_findings_and_command(compared, name):
    document = read(compared, "compare.json")
    done = ggf("show", compared / name)
    assert done.exit_code == 0, done.output
    for cell in document["cells"]:
        assert cell["label"] in done.stdout
    lines = done.stdout.splitlines()
    assert set(document["findings"]) <= set(lines)
    assert any(
        line.endswith(f"ecommendation: {document['recommendation']['text']}") for line in lines
    )
    assert lines[-1] == document["command"]
    assert json.loads(ggf("show", compared / name, "--json").stdout) == document


def test_the_files_of_a_comparison_are_checked(compared):
    document = read(compared, "compare.json")
    for cell in document["cells"]:
        cell["runs"] = []
    (compared / "compare.json").write_text(json.dumps(document))
    assert ggf("show", compared, "--check").exit_code == 0
    (compared / "compare.csv").write_text("other")
    done = ggf("show", compared, "--check")
    assert done.exit_code == 5
    assert "altered    compare.csv" in done.stdout


def test_the_files_of_a_comparison_of_the_former_version_are_checked(compared, tmp_path):
    """Its samples, whose sha256 it does not have, are not."""
    folder = shutil.copytree(compared, tmp_path / "former", ignore=lambda *_: ["cells"])
    document = json.loads((folder / "compare.json").read_text())
    document["schema"] = "ggf-compare/1"
    for cell in document["cells"]:
        cell["pieces"] = len(cell.pop("runs"))
        cell["tied"] = cell.pop("statement") is None
    (folder / "compare.json").write_text(json.dumps(document))
    done = ggf("show", folder, "--check")
    assert done.exit_code == 0, done.output
    count = len(document["files"])
    assert done.stdout.strip() == f"{count} of {count} files intact"


def test_repeating_a_comparison_is_refused_with_its_command(compared):
    done = ggf("show", compared, "--repeat")
    assert done.exit_code == 2
    assert f"hint: {read(compared, 'compare.json')['command']}" in done.stderr


def test_a_damaged_comparison_exits_5(compared):
    (compared / "compare.json").write_text('{"schema": "ggf-compare/1"}')
    done = ggf("show", compared)
    assert done.exit_code == 5
    assert "damaged" in done.stderr


# --- histogram and schema -------------------------------------------------------------------------


def test_a_histogram_has_round_bins_and_bars_in_proportion():
    lines = histogram([98, 99, 100, 101, 102, 118], width=8, max_rows=3)
    assert lines == [" 90– 99  █████▍ 2", "100–109  ████████ 3", "110–119  ██▋ 1"]


def test_a_histogram_of_one_value_is_one_bar():
    assert histogram([7, 7, 7], width=4) == ["7  ████ 3"]
    assert histogram([7, 7, 7], width=4, plain=True) == ["7  #### 3"]
    assert histogram([]) == []


@given(st.lists(st.integers(0, 10**30), min_size=1, max_size=50), st.booleans(), st.integers(2, 12))
def test_a_histogram_counts_each_value_once_in_at_most_max_rows_lines(values, plain, max_rows):
    lines = histogram(values, width=20, max_rows=max_rows, plain=plain)
    assert 1 <= len(lines) <= max_rows
    assert sum(int(line.split()[-1]) for line in lines) == len(values)
    assert all((line.split()[-1] == "0") == (not set(line) & set("#▏▎▍▌▋▊▉█")) for line in lines)
    assert not plain or all(line.isascii() for line in lines)


def test_the_schema_is_generated_from_the_types_that_validate_a_log():
    assert documents.json_schema(documents.RunLog, documents.RUN_SCHEMA) == RUN_SCHEMA
    assert RUN_SCHEMA["$defs"]["RunLog"]["additionalProperties"] is False
