# One command set for people and for continuous integration. `make help` lists the targets.
#
#   PYTHON=python3.12       the interpreter that makes the virtual environment (3.11 or newer)
#   VENV=.venv              where it goes
#   TORCH=torch==2.13.0     which PyTorch
#   TORCH_INDEX=URL         package index tried for PyTorch first; the default has builds without CUDA.
#                           Leave it empty (make demo TORCH_INDEX=) to get your package index's own build, with CUDA
#                           on Linux.
#   BENCH=operations        which file of benchmarks/ make bench runs, e.g. throughput (a training step against TRL's)
#   ARGS="..."              passed on to pytest, to the benchmark or to the demonstration

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
VENV ?= .venv
TORCH ?= torch==2.13.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BENCH ?= operations
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMPS := $(VENV)/.made

# Threads that wait must not burn the cores that others compute on.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help demo test check format bench clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(STAMPS)/train $(STAMPS)/weights ## Train a small agent on the example graph and ask it, all on the CPU
	$(BIN)/kgr1 demo $(ARGS)

test: $(STAMPS)/dev $(STAMPS)/weights ## Run all tests
	@$(BIN)/python -m pytest $(ARGS)

check: $(STAMPS)/dev ## Lint, format check and strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMPS)/dev ## Format the sources and repair what the linter can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMPS)/dev ## Compare retrieval with a linear scan and with networkx; BENCH=throughput: training with TRL's
	$(BIN)/python benchmarks/$(BENCH).py $(ARGS)

clean: ## Remove build products and caches; keeps the virtual environment and your runs
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove the virtual environment too
	rm -rf $(VENV)

# Each step leaves an empty file behind, so that the next call does not install again.

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

# PyTorch comes first and alone: the builds of the plain package index for Linux bring gigabytes of CUDA libraries.
# An index that cannot be reached costs a few seconds, and pip takes what its other sources have.
$(STAMPS)/torch: constraints.txt | $(STAMPS)/venv
	$(PIP) install --no-deps --timeout 15 --retries 1 --constraint constraints.txt \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) '$(TORCH)'
	@touch $@

$(STAMPS)/train: pyproject.toml constraints.txt $(STAMPS)/torch
	$(PIP) install --quiet --constraint constraints.txt --editable '.[train]'
	@touch $@

$(STAMPS)/dev: $(STAMPS)/train
	$(PIP) install --quiet --constraint constraints.txt --editable '.[train,mcp,dev]'
	@touch $@

$(STAMPS)/weights: tools/fetch_weights.py | $(STAMPS)/train
	$(BIN)/python tools/fetch_weights.py
	@touch $@
