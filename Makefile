# Everything a developer types. `make help` lists it; CI runs `make test`, nothing else.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
DEMO ?= .build/demo
# Toolchains made for a build are kept here, so that `make clean` leaves nothing behind in your home.
export EDGEPACK_CACHE ?= $(CURDIR)/.build/cache
SOURCES := $(shell find sdk runtime device_profiles -name '*.py' -o -name '*.toml' -o -name '*.txt' -o -name '*.csv' -o -name '*.json' 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit lint format bench vectors mutants test-long test-large clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.dev ## make .venv with edgepack, its runtime and the development tools

$(VENV)/.host: locks/host.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "edgepack needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes --no-deps -r locks/host.txt
	@touch $@

$(VENV)/.edgepack: $(VENV)/.host pyproject.toml runtime/pyproject.toml $(SOURCES)
	$(PIP) --no-deps --force-reinstall ./runtime .
	@touch $@

$(VENV)/.dev: $(VENV)/.edgepack locks/dev.txt
	$(PIP) --require-hashes --no-deps -r locks/dev.txt
	@touch $@

demo: $(VENV)/.edgepack ## build a real model for two boards and run it from the encrypted bundles
	$(BIN)/python tools/demo.py $(DEMO)

test: lint ## ruff, mypy --strict and all tests but those that take minutes
	$(BIN)/python -m pytest -m 'not long'

test-unit: setup ## only the tests that need no toolchain: seconds
	$(BIN)/python -m pytest -m 'not slow'

lint: setup ## ruff and mypy --strict on both packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## rewrite the code as ruff wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## time a bundle against the bare engine: ratios, not seconds
	$(BIN)/python -m tools.bench

vectors: setup ## write the conformance vectors again
	$(BIN)/python -m tools.vectors

mutants: setup ## both readers on 100,000 mutants, the C reader under ASan on 20,000, each check of the verifier weakened
	$(MAKE) -C tools/reader-c all asan
	$(BIN)/python -m tools.differential 100000 --reader .build/reader-c/reader
	$(BIN)/python -m tools.differential 20000 --seed 1 --reader .build/reader-c/reader-asan
	$(BIN)/python -m tools.mutate_verifier

test-long: setup ## the tests that take minutes; then fuzz every parser of outside bytes, by coverage, 60 s each
	$(BIN)/python -m pytest -m long
	$(PIP) atheris==3.0.0
	$(BIN)/python -m tools.fuzz.run --drill
	$(BIN)/python -m tools.fuzz.run --seconds 60

test-large: setup ## bundles of 2 and 4 GiB: about 9 GB of temporary files
	$(BIN)/python -m tools.large_bundle

clean: ## remove what these targets made
	rm -rf $(VENV) .build dist build .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
