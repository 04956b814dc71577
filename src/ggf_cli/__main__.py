"""Run the command line: python -m ggf_cli."""

from ggf_cli.cli.app import app

app(prog_name="ggf")
