# Every task, from a clean clone to a wheel. CI and the Git hooks call these targets only.
# Needs Rust, a C linker and Python >= 3.11; make PYTHON=/path/to/python to choose one.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
# With --jobs compilers would ask for a share in jobs that they are not handed.
unexport MAKEFLAGS MFLAGS

SUPPORTED := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && { echo $$p; break; }; done)

# The wheel is built once and installed into each environment; what is up to date is left alone.
WHEEL := dist/wheel/.built
WHEEL_PROFILE ?= release
WHEEL_INPUTS := $(shell find Cargo.toml Cargo.lock pyproject.toml README.md LICENSE rust python \
	-not -path '*/__pycache__*' -not -name '*.so' 2>/dev/null)
ENVIRONMENTS := .venv-test .venv-demo
TEST := .venv-test/bin
DEMO := .venv-demo/bin

.PHONY: help
help:  ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: demo
demo: .venv-demo/.package  ## Set up .venv-demo and prune the model that ships in the package.
	$(DEMO)/nnprune demo --overwrite

.PHONY: test
test: test-rust test-python  ## Run all tests.

.PHONY: test-rust
test-rust:  ## Run the tests of the Rust core (the bindings are tested from Python).
	cargo test --package nnprune-core --locked

# Two processes for two cores: threads of NumPy's own would only wait for each other.
.PHONY: test-python
test-python: export OPENBLAS_NUM_THREADS := 1
test-python: .venv-test/.package  ## Run the Python tests against the installed wheel.
	$(TEST)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

.PHONY: lint
lint: .venv-test/.package  ## Check formatting, clippy, ruff, types, and the stub of the core.
	cargo fmt --all --check
	$(TEST)/ruff format --check
	$(TEST)/ruff check
	$(TEST)/mypy
	$(TEST)/python -m mypy.stubtest nnprune._core --allowlist .stubtest-allowlist
	cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: format
format: .venv-test/.package  ## Format the Rust and Python code.
	cargo fmt --all
	$(TEST)/ruff format
	$(TEST)/ruff check --fix

.PHONY: bench
bench: .venv-test/.package  ## Measure speed, memory and accuracy (reads NNPRUNE_DATA).
	for script in benches/*.py; do echo "== $$script"; $(TEST)/python "$$script"; done

.PHONY: instructions
instructions:  ## Count the instructions of fixed work with valgrind, and compare with the record.
	$(PYTHON) benches/instructions.py --check

.PHONY: paper
paper: .venv-test/.package  ## Run the papers' experiments, write docs/experiments.md (PAPER_ARGS=--quick).
	$(TEST)/python benches/paper $(PAPER_ARGS)

.PHONY: peer
peer: .venv-peer/.made  ## Make .venv-peer, in which `make paper` runs the authors' implementation.

.venv-peer/.made: benches/peer/make_environment.sh
	benches/peer/make_environment.sh .venv-peer
	touch $@

.PHONY: wheel
wheel: $(WHEEL)  ## Build the release wheel into dist/wheel.

.PHONY: clean
clean:  ## Remove everything that these targets made.
	rm -rf target dist .venv-build .venv-peer $(ENVIRONMENTS) build .mypy_cache .pytest_cache .ruff_cache
	rm -rf .hypothesis digits-pruned.keras

.venv-build/bin/python .venv-test/bin/python .venv-demo/bin/python:
	$(if $(PYTHON),,$(error no Python >= 3.11 with venv and ensurepip found: make PYTHON=/path/to/python))
	$(PYTHON) -c '$(SUPPORTED)' || { echo '$(PYTHON) is no Python >= 3.11 with venv and ensurepip' >&2; exit 1; }
	$(PYTHON) -m venv $(@:/bin/python=)

.venv-build/.maturin: pyproject.toml | .venv-build/bin/python
	.venv-build/bin/python -m pip install --quiet 'maturin>=1.16,<2'
	touch $@

$(WHEEL): $(WHEEL_INPUTS) .venv-build/.maturin
	rm -rf $(@D)
	.venv-build/bin/maturin build --profile $(WHEEL_PROFILE) --interpreter .venv-build/bin/python --out $(@D)
	touch $@

.venv-test/.dependencies: EXTRAS := [dev]
$(ENVIRONMENTS:=/.dependencies): %/.dependencies: pyproject.toml | %/bin/python $(WHEEL)
	@echo 'Installing the dependencies into $* (TensorFlow among them: this takes a minute)'
	$*/bin/python -m pip install --quiet "$$(echo $(dir $(WHEEL))*.whl)$(EXTRAS)"
	touch $@

$(ENVIRONMENTS:=/.package): %/.package: $(WHEEL) %/.dependencies
	$*/bin/python -m pip install --quiet --no-deps --force-reinstall $(dir $(WHEEL))*.whl
	touch $@
