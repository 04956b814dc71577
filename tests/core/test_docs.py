"""The documentation: links lead somewhere, every page and every source file is listed."""

import re

import pytest

from paths import ROOT
from source_tree import PACKAGE, source_tree, summary, written_tree

PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("training/*.md")],
)
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
PROSE_WIDTH = 120


def without_code(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    """The anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_code(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def links(page):
    for target in LINK.findall(without_code(page.read_text())):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    for path, anchor in links(page):
        assert path.exists(), path
        assert not anchor or anchor in anchors(path), f"{path}#{anchor}"


def test_the_map_lists_every_page():
    listed = {path for path, _ in links(ROOT / "docs/README.md")}
    assert {page.resolve() for page in PAGES} - listed == {ROOT / "docs/README.md"}


def test_the_tree_lists_every_source_file_with_its_docstring():
    assert written_tree() == source_tree(), "run: python tests/support/source_tree.py"


def test_every_source_file_says_what_it_is():
    for file in PACKAGE.rglob("*.py"):
        assert summary(file), file


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_is_wrapped(page):
    """Tables, links on a line of their own and code may be longer."""
    for line in without_code(page.read_text()).splitlines():
        if not line.startswith(("|", "    ", "!")) and " " in line.strip():
            assert len(line) <= PROSE_WIDTH, line
