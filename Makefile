# Every target sets up what it needs in .venv; nothing has to be installed beforehand but Python 3.11.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_READY := $(VENV)/.ready-bench

.PHONY: install demo test lint bench clean

install: $(READY)

$(READY): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -qq --upgrade pip
	$(BIN)/pip install -qq --editable '.[dev]'
	touch $@

$(BENCH_READY): $(READY)
	$(BIN)/pip install -qq --editable '.[bench]'
	touch $@

# Train, evaluate and export a small model on generated text, and run what was exported.
demo: $(READY)
	$(BIN)/keras-transformer demo --output runs/demo --overwrite

# Two processes, one a core; each of them and the processes that tests start count for coverage.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report term --cov-fail-under 90

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy keras_transformer training export

bench: $(BENCH_READY)
	$(BIN)/python benchmarks/text.py
	$(BIN)/python benchmarks/input.py

clean:
	rm -rf $(VENV) build dist runs *.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache
