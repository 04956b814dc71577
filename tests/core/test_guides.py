"""The guides: their Python blocks and the commands of their console blocks run, in order."""

import importlib.util
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from command import ggf
from paths import ROOT

PAGES = [page for page in sorted(ROOT.glob("docs/guide/*.md")) if "```python" in page.read_text()]
# Sections that import these are left out where they are not installed.
OPTIONAL = ("diffusers",)


def test_there_are_pages():
    assert {"own-models.md", "examples.md"} <= {page.name for page in PAGES}


def run_block(code, line, page, names):
    """Run a block of Python; one that starts with "# NAME.py" is the content of a file."""
    if file := re.match(r"# (\w+\.py)\b", code):
        Path(file[1]).write_text(code)
    else:
        # Empty lines keep the line numbers of the page in tracebacks.
        exec(compile("\n" * line + code, str(page), "exec"), names)  # noqa: S102


def run_command(words, capsys):
    """Run `python FILE` or `ggf ...` in this process."""
    program, *words = words
    if program == "python":
        runpy.run_path(words[0], run_name="__main__")
        # Its output has a date.
        capsys.readouterr()
    else:
        assert program == "ggf"
        result = ggf(*words)
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    text, names, printed = page.read_text(), {"__name__": "guide"}, ""
    for section in re.finditer(r"(?:^## |\A)(?:(?!^## ).)*", text, re.MULTILINE | re.DOTALL):
        imported = re.findall(r"^(?:from|import) (\w+)", section[0], re.MULTILINE)
        if any(name in imported and not importlib.util.find_spec(name) for name in OPTIONAL):
            continue
        for block in re.finditer(r"```(python|console)\n(.*?)```", section[0], re.DOTALL):
            if block[1] == "python":
                line = text.count("\n", 0, section.start() + block.start(2))
                run_block(block[2], line, page, names)
                printed += capsys.readouterr().out
                continue
            for command in re.findall(r"^\$ (.*)$", block[2], re.MULTILINE):
                run_command(shlex.split(command), capsys)
    stated = " ".join(re.sub(r"^ *# ", "", text, flags=re.MULTILINE).split())
    for line in printed.splitlines():
        assert line in stated
