# `make repro` and `make test` do everything on a fresh machine; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# DVC and the stages find the environment's python first.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Nothing phones home.
export DVC_NO_ANALYTICS := true
export MLFLOW_DISABLE_TELEMETRY := true
export WANDB_SILENT := true

# Test files that run side by side: one per core, at most four, because each needs memory.
TEST_JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n : 4)))

.DEFAULT_GOAL := help
.PHONY: help env data repro heights ui report test lint types format benchmark docs clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

env: $(VENV)/.installed ## Make .venv and install everything into it

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

data: env ## Bring the raw data out of the bundled remote
	@dvc pull --quiet data.dvc

# With DATA, `dvc repro` must not start on the other data sets, so it is asked for the comparison alone.
repro: data ## Run the whole pipeline (of DATA=emoji alone, JOBS=2 cells at once), show the leaderboard
	@lookalike cells $(DATA) $(if $(JOBS),--jobs $(JOBS))
	@dvc repro --quiet $(if $(DATA),--single-item compare) >/dev/null
	@lookalike report

heights: data ## A first look in a few minutes: the heights cells alone
	@lookalike cells heights $(if $(JOBS),--jobs $(JOBS))
	@lookalike compare data=heights paths.results=.lookalike/heights

report: env ## Show the leaderboard and where to look next
	@lookalike report

ui: env ## Open MLflow: the server in MLFLOW_TRACKING_URI, or http://127.0.0.1:5000
	@lookalike ui

test: data lint types ## Run linter, type checker and tests
	pytest --numprocesses $(TEST_JOBS) --no-loadscope-reorder

lint: env ## Run the linter
	ruff check .
	ruff format --check .

types: env ## Run the type checker
	mypy

format: env ## Format the code
	ruff format .
	ruff check --fix .

benchmark: env ## Measure training against a plain loop, the speed of every family, the cost of metrics
	python benchmarks/training_throughput.py
	python benchmarks/families.py
	python benchmarks/metrics.py

docs: env ## Build the documentation into site/
	mkdocs build --strict

clean: ## Delete checkpoints and the local tracking store; keep data and results
	rm -rf .lookalike mlflow.db mlartifacts wandb dvc_plots site
