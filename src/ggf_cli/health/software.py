"""Check the installed packages and the C++ compiler."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version

import ggf_cli
from ggf_cli.health import FAILED, OK, WARNING, Finding

PACKAGES = (
    "torch",
    "numpy",
    "pillow",
    "safetensors",
    "huggingface_hub",
    "typer",
    "rich",
    "filelock",
    "matplotlib",
    "jinja2",
    "msgspec",
)
# The extra `fid`.
OPTIONAL = ("torch-fidelity",)
COMPILERS = ("c++", "g++", "clang++", "cl")


def versions() -> Finding:
    """List the versions of ggf, Python, its packages and the system."""
    found = {name: _version(name) for name in (*PACKAGES, *OPTIONAL)}
    missing = [name for name in PACKAGES if found[name] is None]
    facts = {"ggf-cli": ggf_cli.__version__, "python": platform.python_version(), **found}
    named = " · ".join(f"{name} {number}" for name, number in facts.items() if number)
    return Finding(
        summary=f"not installed: {', '.join(missing)}" if missing else f"ggf {named[8:]}",
        facts={**facts, "system": platform.platform(), "machine": platform.machine()},
        status=FAILED if missing else OK,
        hint="in a clone of ggf: pip install --force-reinstall ." if missing else None,
        exit_code=1 if missing else 0,
    )


def compiler() -> Finding:
    """Find the C++ compiler that torch.compile needs on CPUs; a warning if there is none."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        return Finding(
            summary=f"none of {', '.join(names)}",
            facts={"path": None, "version": None},
            status=WARNING,
            hint="install one, or leave out --compile on CPUs",
        )
    first_line = ""
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=5, check=False
        )
        first_line = (done.stdout.splitlines() or [""])[0]
    except (OSError, ValueError, subprocess.TimeoutExpired):
        pass
    return Finding(summary=first_line or path, facts={"path": path, "version": first_line or None})


def _version(name: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
