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

.DEFAULT_GOAL := help
.PHONY: help env data repro heights ui report test lint format types benchmark clean

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

repro: data ## Run the whole pipeline, show the leaderboard
	dvc repro
	@$(MAKE) --no-print-directory report

heights: data ## A first look in a few minutes: the heights cells alone
	dvc repro --glob 'evaluate@heights-*' 'real@heights'
	python pipelines/compare.py

report: env ## Show the leaderboard and where to look next
	@python -m lookalike.report

ui: env ## Open the MLflow UI on http://127.0.0.1:5000
	mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5000

test: data ## Run linter, type checker and tests
	ruff check .
	ruff format --check .
	mypy
	pytest

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

clean: ## Delete checkpoints and the local tracking store; keep data and results
	rm -rf .lookalike mlflow.db mlartifacts wandb dvc_plots
