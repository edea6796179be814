# Every target bootstraps .venv from requirements.lock by itself; `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help install lock test test-slow lint format reproduce-all status claims figures report bench clean
SHELL := /bin/bash

PYTHON ?= python3
SCALE  ?= cpu
ARGS   ?=
WORKERS ?= auto
TABLE   ?=
# LAUNCHER=slurm submits to SLURM; DETACH=1 does not wait for it.
HOW    := $(if $(LAUNCHER),--launcher $(LAUNCHER)) $(if $(filter-out 0,$(DETACH)),--detach)
BIN    := .venv/bin
READY  := .venv/.ready
TABLES := $(notdir $(basename $(wildcard conf/table/*.yaml)))

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-zA-Z%_-]+:.*## / {printf "  \033[36m%-24s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Tables: $(TABLES)"
	@echo "Variables: SCALE=$(SCALE) (smoke, cpu, gpu, paper), LAUNCHER=slurm, DETACH=1, TABLE=id, ARGS='...' (passed on), WORKERS=$(WORKERS) (of tests), PYTHON=$(PYTHON)"

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else f"Python 3.10-3.12 is needed, $(PYTHON) is {v[0]}.{v[1]}: set PYTHON=python3.11, say")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

install: $(READY) ## Create .venv from requirements.lock

lock: $(READY) ## Update requirements.lock from pyproject.toml
	$(BIN)/pip install --quiet uv
	@sed -n '/^#/p' requirements.lock > .lock.tmp
	$(BIN)/uv pip compile pyproject.toml --extra dev --python-version 3.10 --quiet --no-header --no-annotate \
		| grep -v -E '^(nvidia-|cuda-|triton)' >> .lock.tmp
	@mv .lock.tmp requirements.lock

# A worker runs its tests in file order, so that a module's fixtures are made once; an idle worker takes
# tests from the others. WORKERS=0 is one process, for a debugger or -s.
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal --durations 10

test: $(READY) ## Run the tests, one process per core (ten minutes or so on two)
	$(PYTEST) $(ARGS)

test-slow: $(READY) ## Run all tests, including the slow ones
	$(PYTEST) -m "slow or not slow" $(ARGS)

lint: $(READY) ## Check style and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

reproduce-table-%: $(READY) ## Reproduce one table (a bare number: of both papers): run what is missing, print ours beside the paper's
	$(BIN)/python scripts/reproduce_table.py $* --scale $(SCALE) $(HOW) $(ARGS)

reproduce-all: $(READY) ## Reproduce every table
	$(BIN)/python scripts/reproduce_table.py $(TABLES) --scale $(SCALE) $(HOW) $(ARGS)

status: $(READY) ## Show the runs of a table (TABLE=ntl-2) and how far they are, or a line for each table
	@$(BIN)/python scripts/status.py $(TABLE) --scale $(SCALE) $(ARGS)

claims: $(READY) ## Judge the papers' claims on the tables that exist, into results/claims.md and claims.csv
	$(BIN)/python scripts/make_claims.py $(ARGS)

figures: $(READY) ## Draw results/figures from the tables and reports that exist
	$(BIN)/python scripts/make_figures.py --scale $(SCALE) $(ARGS)

report: $(READY) ## Write results/report/index.html: claims, tables, figures and runs, to look at in a browser
	$(BIN)/python scripts/make_report.py $(ARGS)

bench: $(READY) ## Run every benchmark
	@code=0; for target in $$(ls src/beyond_ce/benchmarks | sed -n 's/^\([a-z].*\)\.py$$/\1/p'); do $(BIN)/python scripts/benchmark.py $$target $(ARGS) || code=1; done; exit $$code

clean: ## Remove caches (keeps .venv and results)
	rm -rf .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis outputs multirun
