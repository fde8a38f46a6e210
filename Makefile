# Every target sets up what it needs in .venv; nothing has to be installed beforehand but Python 3.11.
# For the tests, `make tools` installs a C compiler and Chromium by apt, or says what to install.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_READY := $(VENV)/.ready-bench
FIGURES_READY := $(VENV)/.ready-figures
DOCS_READY := $(VENV)/.ready-docs
RELEASE_READY := $(VENV)/.ready-release

.PHONY: install install-tested hooks tools demo test coverage lint docs bench bench-quick experiments nightly release clean

install: $(READY)

# The same with the versions that were tested, on the Python that they were tested with.
install-tested:
	$(MAKE) install DEPENDENCIES='--constraint constraints.txt'

$(READY): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -qq --upgrade pip
	$(BIN)/pip install -qq $(DEPENDENCIES) --editable '.[dev]'
	touch $@

$(BENCH_READY): $(READY)
	$(BIN)/pip install -qq --editable '.[bench]'
	touch $@

$(FIGURES_READY): $(READY)
	$(BIN)/pip install -qq --editable '.[figures]'
	touch $@

$(DOCS_READY): $(READY)
	$(BIN)/pip install -qq --editable '.[docs]'
	touch $@

$(RELEASE_READY): $(READY)
	$(BIN)/pip install -qq --editable '.[release]'
	touch $@

# Run ruff and mypy before each commit.
hooks: $(READY)
	$(BIN)/pre-commit install

# What the tests run beside Python; nothing is done where it is there.
tools:
	.ci/tools

# Train, evaluate and export a small model on generated text, and run what was exported.
demo: $(READY)
	$(BIN)/keras-transformer demo --output runs/demo --overwrite

# Two processes, one a core.
test: tools $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 15

# The same with coverage, of the processes that tests start as well; it takes a quarter longer.
coverage: tools $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report term --cov-fail-under 90

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	.ci/mypy

# The site, in build/docs; a warning fails.
docs: $(DOCS_READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# A wheel and a source archive in dist/, checked and not uploaded.
release: $(RELEASE_READY)
	$(BIN)/python .ci/release.py

# Ours beside peers, on one page; then what has no peer.
bench: $(BENCH_READY)
	$(BIN)/python benchmarks/compare.py --output build/bench.md
	$(BIN)/python benchmarks/recurrent.py
	$(BIN)/python benchmarks/phone.py
	$(BIN)/python benchmarks/serve.py
	$(BIN)/python benchmarks/input.py

# The same page of small models, in minutes.
bench-quick: $(BENCH_READY)
	$(BIN)/python benchmarks/compare.py --quick --output build/bench.md

# What docs/experiments.md shows and needs no text.
experiments: $(FIGURES_READY)
	$(BIN)/python experiments/schedules.py
	$(BIN)/python experiments/warmup.py
	$(BIN)/python experiments/dropout.py
	$(BIN)/python experiments/label_smoothing.py
	$(BIN)/python experiments/teacher_forcing.py
	$(BIN)/python experiments/shared_projections.py
	$(BIN)/python experiments/longer_sequences.py
	$(BIN)/python experiments/feed_forward_width.py
	$(BIN)/python experiments/pretraining.py
	$(BIN)/python experiments/digits.py
	$(BIN)/python experiments/memory.py
	$(BIN)/python experiments/broken_training.py --seeds 8
	$(BIN)/python experiments/scaling.py

# What takes too long for `make test`: the claims of docs/mechanisms.md that only training shows,
# and four times as much generated input. It fails if one does not hold.
nightly: $(FIGURES_READY)
	FUZZ_DEPTH=4 $(BIN)/python -m pytest -q tests/test_fuzz.py
	$(BIN)/python experiments/warmup.py --seeds 2 --figure build/warmup.png
	$(BIN)/python experiments/dropout.py --seeds 2 --figure build/dropout.png
	$(BIN)/python experiments/label_smoothing.py --seeds 2 --figure build/label_smoothing.png
	$(BIN)/python experiments/teacher_forcing.py --seeds 2 --figure build/teacher_forcing.png
	$(BIN)/python experiments/longer_sequences.py --seeds 2 --figure build/longer_sequences.png
	$(BIN)/python experiments/feed_forward_width.py --seeds 2 --figure build/feed_forward_width.png

clean:
	rm -rf $(VENV) build dist runs *.egg-info .coverage* .hypothesis .pytest_cache .mypy_cache .ruff_cache
