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

# Cells, and files of tests, that are worked on side by side: one a core, four at most for the sake of memory.
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n : 4)))

.DEFAULT_GOAL := help
.PHONY: help env data repro cells heights ui report test lint format types benchmark clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

env: $(VENV)/.installed ## Make .venv and install everything into it

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

data: env ## Bring the raw data out of the bundled remote
	@dvc pull data.dvc

repro: cells ## Run the whole pipeline, show the leaderboard
	dvc repro
	@$(MAKE) --no-print-directory report

# A `dvc repro` works on one stage at a time; several beside each other are how DVC does more. Each holds what it reads and
# writes, so a cell runs its own stages alone, once its data set's features are there. Cells are begun from the last one
# listed in conf/pipeline.yaml to the first, so that those that need no training fill what is left at the end.
cells: data ## Train, sample and score every family (of DATA=mnist alone), JOBS cells at once
	@python -m lookalike.report check $(DATA)
	@dvc status --quiet || $(MAKE) --no-print-directory --keep-going --jobs=$(JOBS) side_by_side \
	  STAGES="$$(dvc stage list --name-only | sed -n '1!G;h;$$p' | tr '\n' ' ')"

ifdef STAGES
SETS := $(filter features@$(or $(DATA),%),$(STAGES))
CELLS := $(filter evaluate@$(if $(DATA),$(DATA)-)%,$(STAGES))
REPEATS := $(filter repeat@$(if $(DATA),$(DATA)-)%,$(STAGES))
.PHONY: side_by_side $(SETS) $(CELLS) $(REPEATS)
side_by_side: $(CELLS) $(REPEATS)
$(foreach set,$(SETS),$(eval $(filter $(set:features@%=evaluate@%-%),$(CELLS)): $(set)))
$(foreach cell,$(CELLS),$(eval $(filter $(cell:evaluate@%=repeat@%-%),$(REPEATS)): $(cell)))
# Progress bars take turns on one line, and say whose they are.
$(SETS) $(CELLS) $(REPEATS): export TQDM_BAR_FORMAT = $(lastword $(subst @, ,$@)) {l_bar}{bar}{r_bar}
$(SETS) $(CELLS) $(REPEATS): export TQDM_MININTERVAL = 1
$(SETS):
	@dvc --wait-for-lock repro --single-item $(foreach stage,prepare features real,$(@:features@%=$(stage)@%))
$(CELLS):
	@dvc --wait-for-lock repro --single-item $(foreach stage,train sample evaluate,$(@:evaluate@%=$(stage)@%))
$(REPEATS):
	@dvc --wait-for-lock repro --single-item $@
endif

heights: ## A first look in a few minutes: the heights cells alone
	@$(MAKE) --no-print-directory cells DATA=heights
	python pipelines/compare.py data=heights paths.results=.lookalike/heights

report: env ## Show the leaderboard and where to look next
	@python -m lookalike.report

ui: env ## Open the MLflow UI on http://127.0.0.1:5000
	mlflow ui --backend-store-uri $(or $(MLFLOW_TRACKING_URI),sqlite:///mlflow.db) --host 127.0.0.1 --port 5000

test: data ## Run linter, type checker and tests
	ruff check .
	ruff format --check .
	mypy
	pytest --numprocesses $(JOBS) --no-loadscope-reorder

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
