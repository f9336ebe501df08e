# Every target works as the first command in a fresh clone: it makes .venv and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test lint types tests crash soak faults fuzz hostile bench clean

demo: $(VENV)/.demo
	$(BIN)/python examples/digits.py build/demo

test: lint types tests

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

tests: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term

# SQLSTORE_SEED repeats a run; SQLSTORE_SECONDS and SQLSTORE_CASES say how much is done.
crash: $(VENV)/.dev
	$(BIN)/python -m tests.crash_states

soak: $(VENV)/.dev
	$(BIN)/python -m tests.soak

faults: $(VENV)/.dev
	$(BIN)/python -m tests.faults

fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzz

hostile: $(VENV)/.dev
	$(BIN)/python -m tests.hostile

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.write
	$(BIN)/python -m benchmarks.read
	$(BIN)/python -m benchmarks.opening
	$(BIN)/python -m benchmarks.reading.steps
	$(BIN)/python -m benchmarks.encodings
	$(BIN)/python -m benchmarks.compression
	$(BIN)/python -m benchmarks.views
	$(BIN)/python -m benchmarks.edits
	$(BIN)/python -m benchmarks.merge

clean:
	rm -rf $(VENV) build dist .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.%: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[$*]'
	@touch $@
