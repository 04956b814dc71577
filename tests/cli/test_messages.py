"""What a user reads after a wrong value, option or name: the cause and what to write instead."""

import io
import signal
import subprocess
import sys

import pytest

from command import ggf, read_log
from ggf_cli.errors import UsageError
from ggf_cli.numerals import read_real, read_whole
from program import Program, until

FAST = ["--model", "mixture", "--n", "2", "--eps-rel", "0.5"]


def refused(*arguments, exit_code=2):
    """Message and hint of a command that is refused."""
    done = ggf(*arguments)
    assert done.exit_code == exit_code, done.output
    assert done.stdout == ""
    message, hint = done.stderr.rstrip("\n").split("\nhint: ")
    return message.removeprefix("error: "), hint


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("1e6", 1_000_000),
        ("1_000_000", 1_000_000),
        ("1.5e3", 1500),
        ("2.0", 2),
        ("-3", -3),
        ("+3", 3),
        ("1E+2", 100),
        (" 4 ", 4),
        # A float would round it.
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_whole_numbers(text, value):
    assert read_whole(text, "--n") == value


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("10k", "write 10000"),
        ("1.5M", "write 1500000"),
        ("1,000", "write 1000"),
        ("1.5", "like 1000 or 1e3"),
        ("1e-3", "like 1000 or 1e3"),
        ("1e999999999", "like 1000 or 1e3"),
        ("9" * 5000, "like 1000 or 1e3"),
        ("_", "like 1000 or 1e3"),
        ("", "like 1000 or 1e3"),
        ("k", "like 1000 or 1e3"),
        ("x", "like 1000 or 1e3"),
        ("nan", "like 1000 or 1e3"),
        ("٣", "like 1000 or 1e3"),
    ],
)
def test_other_texts_are_no_whole_numbers(text, hint):
    with pytest.raises(UsageError, match=r"^--n is '.*it must be a whole number$") as caught:
        read_whole(text, "--n")
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("text", "value"),
    [("2%", 0.02), ("0.5 %", 0.005), ("7%", 0.07), ("1e1%", 0.1), ("2e-2", 0.02), ("0.02", 0.02)],
)
def test_shares(text, value):
    assert read_real(text, "--eps-rel", share=True) == value


@pytest.mark.parametrize(
    ("text", "share", "hint"),
    [
        ("2%", False, "write 0.02 for 2 hundredths"),
        ("0,02", True, "write 0.02"),
        ("x", True, "like 0.02 or 2%"),
        ("%", True, "like 0.02 or 2%"),
        ("", False, "like 0.02 or 2e-2"),
        ("1,2,3", False, "like 0.02 or 2e-2"),
    ],
)
def test_other_texts_are_no_numbers(text, share, hint):
    with pytest.raises(UsageError) as caught:
        read_real(text, "--eps-rel", share=share)
    assert caught.value.hint == hint


def test_a_percentage_and_1e1_are_accepted_where_they_have_a_meaning(tmp_path):
    words = ["--eps-rel", "50%", "--n", "2e0", "--max-nfe", "1e3", "--seed", "1e1"]
    done = ggf("sample", "--model", "mixture", *words, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    log = read_log(tmp_path)
    assert (log["num_samples"], log["seed"], log["max_nfe"]) == (2, 10, 1000)
    assert log["solver"]["options"]["eps_rel"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["sample", "--n", "10k"], "--n is '10k', it must be a whole number", "write 10000"),
        (["sample", "--eps-abs", "2%"], "--eps-abs is '2%'", "write 0.02"),
        (["compare", "em", "--nfe", "1k"], "--nfe is '1k'", "write 1000"),
        (["compare", "em:steps=1k"], "'em:steps=1k': steps is '1k'", "write 1000"),
        (["compare", "adaptive:eps-rel=x"], "eps-rel is 'x'", "like 0.02 or 2%"),
        (["compare", "adaptive:denoise=ja"], "denoise is 'ja'", "see ggf compare --help"),
        (
            ["sample", "--eps-rel", "0"],
            "must be a finite number and > 0",
            "with 1e-9, --eps-abs alone decides",
        ),
    ],
)
def test_a_number_that_is_refused_says_what_to_write(arguments, message, hint):
    said = refused(*arguments)
    assert message in said[0]
    assert hint in said[1]


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            ["sample", "--steps", "100"],
            "solver 'adaptive' has no option --steps",
            "adaptive chooses its own step sizes, set --eps-rel; solvers with --steps: em, heun,",
        ),
        (
            ["sample", "-s", "em", "--eps-rel", "2%"],
            "solver 'em' has no option --eps-rel",
            "em has fixed step sizes, set --steps or --nfe; solvers with --eps-rel: adaptive,",
        ),
        (
            ["sample", "--snr", "0.2"],
            "solver 'adaptive' has no option --snr",
            "solvers with --snr: pc; adaptive has --eps-rel, --eps-abs,",
        ),
        (
            ["compare", "em:eps-rel=0.1"],
            "solver 'em' has no option 'eps-rel'",
            "em has fixed step sizes, set steps or nfe; solvers with eps-rel: adaptive,",
        ),
        (
            ["compare", "em:stps=3"],
            "solver 'em' has no option 'stps'",
            "did you mean 'steps'? em has steps, nfe, schedule, denoise",
        ),
    ],
)
def test_an_option_of_other_solvers_names_them_and_what_this_one_has(arguments, message, hint):
    said = refused(*arguments)
    assert message in said[0]
    assert said[1].startswith(hint)


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "--solver", "adaptve"],
        ["sample", "--solver", "em", "--eps-rel", "0.1"],
        ["compare", "adaptve"],
        ["compare", "--metric", "sdw"],
        ["list-solvers", "adaptve"],
        ["sample", "--n", "x"],
        ["sample", "--out", ""],
        ["sample", "--model", "google/ncsnpp-church-256"],
    ],
    ids=" ".join,
)
def test_it_is_refused_before_torch_is_imported(arguments):
    code = (
        "import sys; from ggf_cli.cli.app import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() in (["2", "False"], ["3", "False"])


# --- --out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["sample", "compare"])
def test_out_is_a_folder(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused(command, "--out", "")
    assert said == ("--out is empty, it must be a folder", "like --out runs/a")
    said = refused(command, "--out", "my/cats.png")
    assert said[0] == "--out is 'my/cats.png', the name of a file; it must be a folder"
    assert said[1] == "like --out my/cats"
    (tmp_path / "notes.txt").touch()
    said = refused(command, "--out", "notes.txt", exit_code=5)
    assert said[0] == "cannot create the folder notes.txt: there is a file of this name"
    assert said[1] == "give another place to write to, like --out notes-run"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_may_have_a_dot_in_its_name_and_one_that_exists_any_name(tmp_path):
    (tmp_path / "old.png").mkdir()
    for name in ("eps-0.5", "v1.2", "old.png"):
        assert ggf("sample", *FAST, "--out", tmp_path / name).exit_code == 0


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["sample", "--model", "fashon-vp"], "unknown model 'fashon-vp'", "'fashion-vp'"),
        (["sample", "--solver", "Adaptve"], "unknown solver 'Adaptve'", "'adaptive'"),
        (["sample", "--solver", "EM"], "unknown solver 'EM'", "'em'"),
        (["compare", "emm"], "unknown solver 'emm'", "'em'"),
        (["compare", "em:stps=3"], "solver 'em' has no option 'stps'", "'steps'"),
        (["list-solvers", "hein"], "unknown solver 'hein'", "'heun'"),
        (["compare", "--preset", "paper-cifar"], "unknown preset 'paper-cifar'", "'paper-cifar10'"),
        (["compare", "--metric", "sdw"], "unknown metric 'sdw'", "'swd'"),
        (["list-models", "--family", "exakt"], "unknown family 'exakt'", "'exact'"),
        (["sample", "--format", "pngs"], "unknown format 'pngs'", "'png'"),
        (["sample", "--precision", "bf17"], "--precision is 'bf17'", "'bf16'"),
        (["sample", "--fromat", "npz"], "unknown option '--fromat'", "'--format'"),
        (["sample", "--eps_rel", "1"], "unknown option '--eps_rel'", "'--eps-rel'"),
        (["samle"], "unknown command 'samle'", "'sample'"),
        (["--verion"], "unknown option '--verion'", "'--version'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_misspelt_name_is_answered_in_one_style(arguments, message, hint):
    said = refused(*arguments)
    assert said[0].endswith(message) or said[0].startswith(message)
    assert said[1].startswith(f"did you mean {hint}? ")


def test_other_errors_in_the_command_line_have_that_style_too():
    assert refused("sample", "--seed")[0] == "option '--seed' requires an argument"
    assert refused("show", "a", "b") == (
        "got unexpected extra argument(s) (b)",
        "see ggf show --help",
    )


def test_a_repository_without_its_prefix_is_recognised():
    said = refused("sample", "--model", "google/ncsnpp-church-257", exit_code=3)
    assert said[0] == "no checkpoint at google/ncsnpp-church-257"
    assert said[1].startswith("did you mean 'hf:google/ncsnpp-church-257'? ")
    page = "https://huggingface.co/google/ncsnpp-church-257"
    said = refused("sample", "--model", page, exit_code=3)
    assert said[1].startswith("did you mean 'hf:google/ncsnpp-church-257'? ")


def test_the_repository_of_a_registered_model_is_answered_with_its_name():
    from ggf_cli.checkpoints.documents import HUB
    from ggf_cli.checkpoints.manifest import read_manifest

    entry = next(entry for entry in read_manifest().values() if entry.kind == HUB)
    said = refused("sample", "--model", entry.place, exit_code=3)
    assert said[1] == f"did you mean '{entry.name}'? it is hf:{entry.place}"


def test_a_path_that_does_not_exist_is_answered_with_a_file_that_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "church.pth").touch()
    said = refused("sample", "--model", "./churhc.pth", exit_code=3)
    assert said == (
        "no checkpoint at ./churhc.pth",
        "did you mean './church.pth'? see ggf list-models for names",
    )
    said = refused("sample", "--model", "churhc.pth", exit_code=3)
    assert said[1].startswith("did you mean 'church.pth'? ")
    said = refused("sample", "--model", "none/church.pth", exit_code=3)
    assert said[1].startswith("there is no folder none; ")


# --- results that differ from what is expected ----------------------------------------------------


def test_a_grid_that_is_too_small_for_all_samples_says_how_many_it_shows(tmp_path):
    words = ["sample", "--model", "mixture", "--eps-rel", "0.5", "--n", "6"]
    said = "the picture shows 4 of 6 samples (--grid)"
    done = ggf(*words, "--grid", "2x2", "--out", tmp_path / "small")
    assert said in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1] == str(tmp_path / "small/grid.png")
    assert "the picture shows" not in ggf(*words, "--grid", "2x3", "--out", tmp_path / "b").stdout


@pytest.mark.parametrize(
    ("solver", "effect"),
    [
        (
            "adaptive",
            "--eps-rel 0.01 is below --eps-abs 0.5: it has no effect on values of x below",
        ),
        (
            "adaptive-multistep",
            "--eps-rel 0.01 of the data range 2 is below --eps-abs 0.5: it has no effect;",
        ),
    ],
)
def test_a_relative_tolerance_without_effect_is_said_once(solver, effect, tmp_path):
    words = ["sample", "--model", "mixture", "--n", "2", "--solver", solver, "--eps-abs", "0.5"]
    done = ggf(*words, "--eps-rel", "1%", "--out", tmp_path / "a")
    assert done.exit_code == 0
    assert done.stderr.count("warning: ") == 1
    assert f"warning: {effect}" in done.stderr
    assert "lower --eps-abs" in done.stderr
    assert "warning" not in ggf(*words, "--eps-rel", "0.6", "--out", tmp_path / "b").stderr
    assert ggf(*words, "--eps-rel", "1%", "--out", tmp_path / "c", "--quiet").stderr == ""


def test_eps_rel_of_the_multistep_solver_has_no_effect_where_that_is_said(tmp_path):
    words = ["sample", "--model", "mixture", "--n", "2", "--solver", "adaptive-multistep"]
    for folder, eps_rel in (("a", "0.001"), ("b", "0.003")):
        ggf(*words, "--eps-abs", "0.01", "--eps-rel", eps_rel, "--out", tmp_path / folder)
    for name in ("000000.png", "000001.png"):
        a, b = (tmp_path / folder / "samples" / name for folder in "ab")
        assert a.read_bytes() == b.read_bytes()


def test_a_comparison_says_it_once_for_each_setting(tmp_path):
    words = ["compare", "adaptive", "--model", "mixture", "--n", "2", "--repeats", "2"]
    done = ggf(*words, "--eps-rel", "0.005,0.5", "--nfe", "5", "--out", tmp_path / "c")
    assert done.exit_code == 0, done.output
    assert done.stderr.count("warning: --eps-rel 0.005 is below --eps-abs 0.00781") == 1
    assert done.stderr.count("warning: ") == 1


# --- the terminal ---------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_bar_leaves_room_for_what_ctrl_c_writes(width):
    """A last line of full width would wrap, and its first line would stay on the screen."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn

    from ggf_cli.progress import Bar

    console = Console(file=io.StringIO(), width=width, height=9, force_terminal=True)
    bar = Bar(TextColumn("{task.description}"), BarColumn(None), console=console, expand=True)
    bar.add_task("sampling", total=1.0, completed=0.5)
    lines = console.render_lines(bar.get_renderable(), pad=False)
    assert {sum(part.cell_length for part in line) for line in lines} == {width - 4}


def test_sentences_wrap_at_words_and_commands_stay_on_one_line(monkeypatch):
    from rich.console import Console

    from ggf_cli.cli import console

    def printed(text):
        out = io.StringIO()
        monkeypatch.setattr(console.sys, "stdout", out)
        console.result_prose(text)
        return out.getvalue().splitlines()

    sentence = "samples of dpmpp-2m-sde are better than those of em, by 3.1 ± 0.4 in FID"
    command = "ggf compare em adaptive --model fashion-vp --eps-rel 0.05 --n 1000"
    assert printed(sentence) == [sentence]
    monkeypatch.setattr(
        console, "Console", lambda: Console(force_terminal=True, width=30, height=9)
    )
    lines = printed(sentence)
    assert len(lines) > 1
    assert max(map(len, lines)) <= 30
    assert " ".join(lines) == sentence
    assert any("dpmpp-2m-sde" in line for line in lines)
    assert printed(f"{sentence}\n{command}") == [*lines, command]


def test_after_ctrl_c_one_line_says_what_is_kept(tmp_path):
    run = ["sample", "--model", "mixture", "--n", 5000, "--eps-rel", 0.1, "--batch-size", 2]
    folder = tmp_path / "run"
    program = Program(*run, "--out", folder, log=tmp_path / "log")
    until(lambda: len(list(folder.glob("samples/*.png"))) > 2)
    program.signal(signal.SIGINT)
    assert program.wait() == 130, program.stderr
    kept = len(list(folder.glob("samples/*.png")))
    assert program.stderr.splitlines()[-1] == (
        f"interrupted: {kept} of 5000 samples are in {folder};"
        " the same command with --resume continues"
    )
    assert program.stdout == ""


def test_an_interrupted_comparison_without_results_prints_its_plan_and_one_line(
    tmp_path, monkeypatch
):
    from ggf_cli.comparison.runner import Comparison

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Comparison, "run", stopped)
    folder = tmp_path / "c"
    words = ["compare", "em:steps=2", "em:steps=3", "--model", "mixture", "--n", "2"]
    done = ggf(*words, "--out", folder)
    assert (done.exit_code, done.stdout) == (130, "")
    assert done.stderr.splitlines()[-1] == (
        f"interrupted: 0 runs and the finished samples of the next one are kept in {folder};"
        " the same command continues"
    )


def test_ctrl_c_before_anything_is_drawn_exits_130_with_one_line(monkeypatch):
    from ggf_cli.cli import sample

    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(sample, "find_model", interrupted)
    done = ggf("sample")
    assert done.exit_code == 130
    assert done.stderr == "interrupted; samples that are in the output folder are kept\n"
