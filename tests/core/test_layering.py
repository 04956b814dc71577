"""Imports follow the layers, and light commands do not import torch."""

import ast
import os
import subprocess
import sys
import tokenize
from graphlib import CycleError, TopologicalSorter

import pytest

from paths import ROOT

PACKAGE = ROOT / "src/ggf_cli"

# Each layer may import those after it, and itself.
LAYERS = [
    ("cli", "__main__"),
    ("certification", "comparison", "health"),
    ("runs",),
    ("sampling", "pilot"),
    ("batch_size",),
    ("engine", "slots", "prior", "checkpoints", "trace", "trajectory"),
    (
        "solvers",
        "networks",
        "metrics",
        "parametrizations",
        "adapters",
        "score",
        "counted_score",
        "guidance",
        "noise",
        "sde",
        "diffusions",
        "custom_sde",
        "runtime",
        "results",
        "progress",
    ),
    ("per_sample",),
    ("documents", "errors", "files", "numerals", "registry", "scalars", "text"),
]
FORBIDDEN = {
    "solvers": {"ggf_cli.networks", "ggf_cli.checkpoints", "rich", "PIL", "pathlib"},
    "engine": {"rich", "PIL", "pathlib", "typer"},
    "noise": {"ggf_cli"},
}


def imports(file):
    """Yield the modules that a file imports, also inside functions, but not for type checkers."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(module):
    part = module.split(".")[1] if "." in module else "__init__"
    return next((i for i, layer in enumerate(LAYERS) if part in layer), None)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_follow_the_layers(file):
    part = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part == "__init__":
        # The public interface refers to all layers and imports them lazily.
        return
    own = next(i for i, layer in enumerate(LAYERS) if part in layer)
    for module in imports(file):
        if module.startswith("ggf_cli.") and (layer := layer_of(module)) is not None:
            assert layer >= own, f"{file.name} imports {module}"
        inside = module.startswith(f"ggf_cli.{part}.")
        for forbidden in () if inside else FORBIDDEN.get(part, ()):
            assert not f"{module}.".startswith(f"{forbidden}.")


def module_of(file):
    parts = ("ggf_cli", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_modules_import_each_other():
    """Imports inside functions count, those for type checkers do not; `ggf_cli` itself is lazy."""
    modules = {module_of(file): file for file in FILES}
    graph = {
        name: {m for m in imports(file) if m in modules and m not in (name, "ggf_cli")}
        for name, file in modules.items()
    }
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_only_files_py_computes_hashes_and_syncs():
    for file in FILES:
        if file.name != "files.py":
            text = file.read_text()
            assert "hashlib" not in text, file
            assert "os.fsync" not in text, file


def test_no_file_has_more_than_350_lines():
    for file in FILES:
        assert len(file.read_text().splitlines()) <= 350, file


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["--version"],
        ["list-models"],
        ["list-models", "--json"],
        ["sample", "--help"],
        ["compare", "--help"],
        ["convert", "--help"],
        ["download", "--help"],
        ["show", "--help"],
        ["doctor", "--help"],
        ["inspect", "--help"],
        ["list-models", "--family", "exact", "--here"],
        ["certify", "--help"],
        ["list-solvers"],
        ["--show-completion"],
        ["sample", "--model", "nope"],
    ],
    ids=" ".join,
)
def test_light_commands_import_nothing_heavy(argv):
    code = f"""
import sys
sys.argv = ["ggf", *{argv!r}]
try:
    from ggf_cli.cli.app import app
    app()
finally:
    heavy = {{"torch", "numpy", "matplotlib", "PIL", "diffusers"}} & set(sys.modules)
    # `list-models` takes the cache folder from huggingface_hub.constants, an import of 1 ms
    hub = {{name for name in sys.modules if name.startswith("huggingface_hub.")}}
    heavy |= hub - {{"huggingface_hub.constants"}}
    assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "AssertionError" not in done.stderr


def test_drawing_from_an_embedded_model_imports_only_what_it_uses(tmp_path):
    """No plots, hub, optional packages or compiler: each import takes 0.1 s to several seconds."""
    unused = [
        "matplotlib",
        "huggingface_hub",
        "diffusers",
        "torchvision",
        "torch_fidelity",
        "scipy",
    ]
    unused += ["sympy", "requests", "httpx", "torch._dynamo", "torch._inductor"]
    words = ["ggf", "sample", "--model", "fashion-vp", "--n", "2", "--solver", "em", "--steps", "1"]
    words += ["--out", str(tmp_path / "run")]
    code = f"""
import sys
sys.argv = {words!r}
try:
    from ggf_cli.cli.app import app
    app()
finally:
    print(*sorted(set({unused!r}) & set(sys.modules)), sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "", done.stdout
    assert (tmp_path / "run/grid.png").exists()


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, ggf_cli, ggf_cli.solvers; assert 'torch' not in sys.modules; dir(ggf_cli)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_completion_offers_names_and_imports_no_torch():
    code = """
import sys
from ggf_cli.cli.app import app
try: app(prog_name="ggf")
finally: assert "torch" not in sys.modules
"""
    for words, offered in [
        ("ggf sa", "sample"),
        ("ggf sample -m fa", "fashion-vp"),
        ("ggf sample -s ", "em"),
    ]:
        environment = {
            **os.environ,
            "_GGF_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert offered in done.stdout.split()
        assert "AssertionError" not in done.stderr


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "training"])
def test_comments_stand_on_their_own_line(folder):
    """Only directives to tools, such as `noqa`, and shapes, such as (B, K), may follow code."""
    directives = ("# noqa", "# type:", "# fmt:", "# (B, ")
    for file in sorted((ROOT / folder).rglob("*.py")):
        with file.open("rb") as lines:
            for token in tokenize.tokenize(lines.readline):
                trailing = token.line[: token.start[1]].strip()
                if token.type == tokenize.COMMENT and trailing:
                    assert token.string.startswith(directives), f"{file}:{token.start[0]}"
