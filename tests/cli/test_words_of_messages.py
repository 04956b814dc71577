"""Messages on the command line speak of flags, files and models, not of Python."""

import ast
import re

import pytest

from adm_files import adm_config, adm_file
from command import ggf
from paths import ROOT

# Modules whose errors are about the user's own Python code.
OF_CODE = {
    "adapters.py",
    "checkpoints/user_code.py",
    "counted_score.py",
    "custom_sde.py",
    "guidance.py",
    "per_sample.py",
    "prior.py",
    "scalars.py",
    "sde.py",
}
# Words of Python; `resume=True` in backticks becomes a flag, and FILE.py:OBJECT is own code.
PYTHON = re.compile(r"ggf_cli\.|\w\(\)|\w=,|(?<!`)\b\w+=(True|None)|\bNone\b|\bdtype\b")


def messages(path):
    """The literal text of each error that a module makes, and its line."""
    for call in ast.walk(ast.parse(path.read_text())):
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("Error"):
            values = [*call.args, *(word.value for word in call.keywords)]
            literals = (node.value for v in values for node in ast.walk(v) if is_text(node))
            yield call.lineno, " ".join(literals)


def is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_no_error_outside_of_own_code_uses_words_of_python():
    source = ROOT / "src/ggf_cli"
    found = [
        f"{path.relative_to(source)}:{line}: {text}"
        for path in sorted(source.rglob("*.py"))
        if str(path.relative_to(source)) not in OF_CODE
        for line, text in messages(path)
        if PYTHON.search(text) and "from Python" not in text
    ]
    assert found == []


@pytest.fixture
def classes(tmp_path):
    """Options for a network with class labels, in a file."""
    path = adm_file("imagenet64_cond", tmp_path / "a.pt")
    return ["--model", str(path), "--config", adm_config("imagenet64_cond"), "--quiet"]


def test_guidance_of_a_checkpoint_without_a_label_for_no_class(classes, tmp_path):
    words = ["--n", "2", "--label", "1", "--guidance", "2", "--out", str(tmp_path / "a")]
    done = ggf("sample", *classes, *words)
    assert done.exit_code == 2
    assert "--guidance needs the score without a class label" in done.stderr
    assert "leave out --guidance" in done.stderr
    assert "null" not in done.stderr
    assert "ScoreModel" not in done.stderr


def test_labels_for_a_checkpoint_without_classes(tmp_path):
    done = ggf("sample", "--model", "mixture", "--label", "1", "--out", str(tmp_path / "a"))
    assert done.exit_code == 2
    assert "it has no class labels" in done.stderr
    assert "=" not in done.stderr
