"""The guides: their Python blocks run, in order."""

import re

import pytest

from paths import ROOT

PAGES = [page for page in sorted(ROOT.glob("docs/guide/*.md")) if "```python" in page.read_text()]


def test_there_are_pages():
    assert ROOT / "docs/guide/own-models.md" in PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # Empty lines keep the line numbers of the page in tracebacks.
    text, names = page.read_text(), {"__name__": "guide"}
    for block in re.finditer(r"```python\n(.*?)```", text, re.DOTALL):
        above = "\n" * text.count("\n", 0, block.start(1))
        exec(compile(above + block[1], str(page), "exec"), names)  # noqa: S102
    stated = " ".join(re.sub(r"^ *# ", "", text, flags=re.MULTILINE).split())
    for line in capsys.readouterr().out.splitlines():
        assert line in stated
