# Needs only python3 (3.11 or newer) with its venv module, and make.
# On Debian: apt install python3 python3-venv make

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# One stamp per kind of installation: packages are reinstalled only when pyproject.toml changes.
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_NODE := tests/node/node_modules/.installed
INSTALLED_CHROMIUM := $(VENV)/.installed-chromium

.DEFAULT_GOAL := help
.PHONY: help run test test-all lint simulate soak mutants bench clean

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(INSTALLED)  ## start the chat example on its default port
	@$(BIN)/tinyvex dev examples/chat/app.py

test: $(INSTALLED_DEV) $(INSTALLED_NODE) $(INSTALLED_CHROMIUM)  ## every test; skips those that need Node, Chromium or pyright if it is missing
	$(BIN)/python -m pytest -q --numprocesses=auto --maxprocesses=4 --dist=loadfile

test-all: $(INSTALLED_DEV) $(INSTALLED_NODE) $(INSTALLED_CHROMIUM) lint  ## every test and the linters; requires Node, Chromium and pyright
	TINYVEX_TEST_ALL=1 WORLDS=$(or $(WORLDS),1000) $(BIN)/python -m pytest -q

lint: $(INSTALLED_DEV)  ## ruff, mypy strict, pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

simulate: $(INSTALLED_DEV)  ## seeded worlds; SEED=7 replays one, WORLDS=1000 runs many
	SEED=$(or $(SEED),1) WORLDS=$(or $(WORLDS),$(if $(SEED),1,200)) $(BIN)/python -m pytest -q tests/simulation

# The default seed is the date: each run explores other worlds and prints its seed.
soak: SEED := $(or $(SEED),$(shell date +%Y%m%d))
soak: $(INSTALLED_DEV)  ## tests that take hours; prints seeds and counts; SEED=, WORLDS=, MESSAGES=, CONNECTIONS=, SECONDS=
	SEED=$(SEED) WORLDS=$(or $(WORLDS),1000) $(BIN)/python -m pytest -qs -o faulthandler_timeout=0 tests/simulation
	FUZZ_SEED=$(SEED) FUZZ_MESSAGES=$(or $(MESSAGES),1000000) \
		$(BIN)/python -m pytest -qs -o faulthandler_timeout=0 tests/fuzz
	LOAD_CONNECTIONS=$(or $(CONNECTIONS),5500) LOAD_SECONDS=$(or $(SECONDS),600) \
		$(BIN)/python -m pytest -qs -o faulthandler_timeout=0 tests/load
	$(BIN)/python -m bench history --real

mutants: $(INSTALLED_DEV)  ## small changes of the code that no test notices; SEED=, COUNT=, SINCE=commit, MODULES=tinyvex/sync
	$(BIN)/python -m tests.mutation $(MODULES) --count $(or $(COUNT),300) \
		$(if $(SEED),--seed $(SEED)) $(if $(SINCE),--since $(SINCE))

bench: $(INSTALLED_DEV)  ## real benchmark runs; NAME=canonical runs one
	$(BIN)/python -m bench $(NAME) --real

clean:  ## remove the environment and everything generated
	rm -rf $(VENV) tests/node/node_modules build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Tinyvex needs Python 3.11 or newer; select one with: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(INSTALLED_DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(INSTALLED)

# Published JavaScript libraries that verify the protocol. Without npm these tests are skipped.
$(INSTALLED_NODE): tests/node/package-lock.json
	@if command -v npm >/dev/null; then npm ci --prefix tests/node --no-audit --no-fund --silent && touch $@ || \
		echo "npm could not install tests/node: its tests are skipped" >&2; fi

# A real browser: Debian's Chromium, installed if permitted. Without a browser its tests are skipped.
$(INSTALLED_CHROMIUM): | $(BIN)/python
	@{ command -v chromium || command -v chromium-browser || command -v google-chrome || \
		{ test "$$(id -u)" = 0 && command -v apt-get && export DEBIAN_FRONTEND=noninteractive && \
			{ apt-get install -y chromium || { apt-get update && apt-get install -y chromium; }; }; }; \
	} >/dev/null 2>&1 && touch $@ || echo "no chromium found: the browser tests are skipped" >&2
