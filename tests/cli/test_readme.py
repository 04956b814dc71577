"""README and guide: their commands run, and the tables of models and solvers are the registries."""

import re
import shlex

import pytest

from command import ggf
from ggf_cli.checkpoints.manifest import read_manifest
from ggf_cli.solvers import SOLVERS
from paths import ROOT

README = (ROOT / "README.md").read_text()
MODELS, SOLVER_PAGE = (
    (ROOT / "docs" / page).read_text() for page in ("guide/models.md", "reference/solvers.md")
)
# The README is for the first minute; the rest is behind links.
WORDS = 1200
CONSOLE = re.findall(
    r"```console\n\$ ggf (.*?)\n(.*?)```", README + MODELS + SOLVER_PAGE, re.DOTALL
)


def masked(text):
    """Replace numbers, which depend on the machine, by `#`."""
    return re.sub(r"[\d.,–-]+", "#", text)


def test_there_are_commands():
    assert len(CONSOLE) >= 3


@pytest.mark.parametrize(("command", "output"), CONSOLE, ids=[command for command, _ in CONSOLE])
def test_console_blocks_run_and_print_the_stated_output(command, output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = ggf(*shlex.split(command))
    assert done.exit_code == 0, done.output
    if output:
        printed, stated = done.stdout.splitlines(), output.splitlines()
        assert [masked(line) for line in printed] == [masked(line) for line in stated]


def test_the_python_block_runs():
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(block, "README.md", "exec"), {})  # noqa: S102


def test_the_readme_is_short():
    assert len(README.split()) <= WORDS


def table(page, header):
    """The cells, by row, of the table of a page whose header starts with `header`."""
    lines = page[page.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def test_the_solver_table_is_the_registry():
    assert table(SOLVER_PAGE, "| `--solver` |") == [
        [name, entry.summary] for name, entry in SOLVERS.items()
    ]


def test_the_model_table_is_the_registry():
    assert table(MODELS, "| `--model` |") == [
        [
            name,
            entry.dataset,
            {"ve": "VE", "vp": "VP", "subvp": "sub-VP", "edm": "EDM"}[entry.sde["name"]],
            "×".join(map(str, entry.shape)),
            f"{entry.parameters:,}" if entry.parameters else "–",
            entry.license,
        ]
        for name, entry in read_manifest().items()
    ]


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)(?:  |`)", README):
        assert f"\n{target}:" in makefile
