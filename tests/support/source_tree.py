"""The source tree of docs/architecture.md, from the first docstring line of each file.

python tests/support/source_tree.py     # writes it into docs/architecture.md
"""

import ast

from paths import ROOT

PACKAGE = ROOT / "src/ggf_cli"
PAGE = ROOT / "docs/architecture.md"
BEGIN, END = "<!-- tree: begin -->\n", "<!-- tree: end -->\n"


def source_tree():
    """The tree as Markdown: a heading and a table for each folder, a row for each file."""
    folders = {PACKAGE, *(file.parent for file in PACKAGE.rglob("*.py"))}
    blocks = []
    for folder in sorted(folders):
        rows = [f"| `{file.name}` | {summary(file)} |" for file in sorted(folder.glob("*.py"))]
        name = folder.relative_to(PACKAGE.parent).as_posix()
        blocks.append("\n".join([f"#### {name}/", "", "| file | |", "|---|---|", *rows, ""]))
    return "\n".join(blocks)


def summary(file):
    """The first line of the docstring of a file."""
    return (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n")[0].replace("|", "\\|")


def written_tree():
    """The tree as the page has it."""
    return PAGE.read_text().split(BEGIN)[1].split(END)[0]


def main():
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(before + BEGIN + source_tree() + END + after)


if __name__ == "__main__":
    main()
