.DEFAULT_GOAL := help
.PHONY: help setup demo test check laws bench bench-parts bench-setup bench-peers docs

PYTHON ?= python3
BIN := .venv/bin
# One thread a process: the same sums in the same order on every machine.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -q
# Azure's own stand-in for its storage, against which the tests of stores run.
AZURITE := 3.37.0

help:  ## List the verbs.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/ready .venv/servers/azurite-$(AZURITE)  ## Make .venv with what the examples, tests and checks need.

.venv/ready: pyproject.toml constraints.txt
	@echo 'Installing into .venv; the first time takes a few minutes.'
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@$(BIN)/pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

.venv/servers/azurite-$(AZURITE): | .venv/ready
	@mkdir -p $(@D)
	@if npm install --silent --no-audit --no-fund --prefix $(@D) azurite@$(AZURITE); then touch $@; \
	else echo 'npm could not install azurite; the tests that need it are skipped.'; fi

demo: setup  ## Train a small network on handwritten digits.
	@$(BIN)/python examples/digits.py

test: setup  ## Run the tests, two files at a time.
	@$(PYTEST) -m 'not laws' --hypothesis-profile=fast -n 2 --dist loadfile

check: setup  ## Run ruff, mypy, pyright and the rules of the architecture.
	$(BIN)/ruff check
	$(BIN)/mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	@$(PYTEST) tests/test_architecture.py

laws: setup  ## Run the property tests with many more examples, and kill 200 processes that save.
	@$(PYTEST) -m 'hypothesis or laws' --hypothesis-profile=nightly --timeout=3600
	@KILLS=200 $(PYTEST) tests/checkpoint/test_kills.py --timeout=3600

bench: setup  ## Measure what the loop costs.
	@$(BIN)/python -m benchmarks

bench-parts: setup  ## Measure single parts of a step and of a start.
	@$(PYTEST) benchmarks/parts.py --benchmark-timer=time.process_time --benchmark-disable-gc --benchmark-warmup=on \
		--benchmark-max-time=0.5 --benchmark-columns=min,median,iqr,rounds --benchmark-sort=min

bench-setup: setup  ## Make an environment in .venv-bench for each system to compare with.
	@$(BIN)/python -m benchmarks.peers.environments

bench-peers: bench-setup  ## Measure other systems and this one beside a hand-written loop.
	@$(BIN)/python -m benchmarks.peers

docs: setup  ## Check that the links in README.md and docs/ lead somewhere.
	@$(BIN)/python -m docs.check_links
