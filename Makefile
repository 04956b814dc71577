# make sample    draw a grid from the embedded model
# make test      lint, types, tests
# make bench     what things cost on this machine, beside what others cost
#
# Each sets up .venv by itself, at the versions of constraints.txt.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: sample test lint bench clean

sample: .venv/installed
	$(BIN)/ggf sample --model fashion-vp --n 16 --seed 0

test: lint
	$(BIN)/pytest

lint: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/python benchmarks/bench.py

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
