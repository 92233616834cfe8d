# `make repro` and `make test` do everything on a fresh machine; `make help` lists the rest.
# Only features of GNU make 3.81, which macOS brings.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# DVC and the stages find the environment's python first, and the code of this checkout before that of any other.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH := $(CURDIR)/src$(if $(PYTHONPATH),:$(PYTHONPATH))
# Nothing phones home.
export DVC_NO_ANALYTICS := true
export MLFLOW_DISABLE_TELEMETRY := true
export WANDB_SILENT := true

# Test files that run side by side: one per core, at most four, because each needs memory.
TEST_JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n : 4)))

# Whether the scripts of the environment lead to another place: it was copied, moved or linked from another checkout.
ELSEWHERE := $(shell test -e $(BIN)/dvc && cd -P . && here=$$(cd $(VENV) && pwd) \
	&& ! head -n 2 $(BIN)/dvc | grep -qF "$$here/bin/python" && echo yes)
# Whether the environment is of no use: also if its making was interrupted, or its Python is gone.
BROKEN := $(or $(ELSEWHERE),$(shell test -e $(VENV)/.unfinished && echo yes; \
	test -d $(VENV) && ! test -x $(BIN)/python && echo yes))

.DEFAULT_GOAL := help
.PHONY: help env again data first repro heights ui report test lint types format benchmark audit docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-12s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(VENV)/.installed ## Make .venv and install everything into it

$(VENV)/.installed: pyproject.toml constraints.txt $(if $(BROKEN),again)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is " + sys.version)'
	@test -z "$(ELSEWHERE)" || ! test -L $(VENV) || { echo "error: $(VENV) is a link to the environment of another \
	checkout: delete the link (rm $(VENV)), and make will make an environment here" >&2; exit 1; }
	@test -z "$(BROKEN)" || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@touch $(VENV)/.unfinished
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@rm $(VENV)/.unfinished
	@touch $@

data: env ## Bring the raw data out of the bundled remote
	@$(BIN)/lookalike data

first: data ## A first look in four minutes: five families on MNIST, or on DATA=photos
	@$(BIN)/lookalike first $(DATA) $(if $(JOBS),--jobs $(JOBS))

# Everything else is up to date after `lookalike cells`, and DVC would rewrite data.dvc if there are files of yours in data/.
repro: data ## Run the whole pipeline (DATA=emoji alone, JOBS=2 cells at once, SEEDS=3 trainings each), show the leaderboard
	@$(BIN)/lookalike cells $(DATA) $(if $(JOBS),--jobs $(JOBS)) $(if $(SEEDS),--seeds $(SEEDS))
	@$(BIN)/dvc repro --quiet --single-item compare >/dev/null
	@$(BIN)/lookalike report $(if $(SEEDS),paths.results=results/seeds)

heights: data ## Every family on the smallest data set, in a few minutes
	@$(BIN)/lookalike cells heights $(if $(JOBS),--jobs $(JOBS))
	@$(BIN)/lookalike compare data=heights paths.results=.lookalike/heights

report: env ## Show the leaderboard and where to look next
	@$(BIN)/lookalike report

ui: env ## Open MLflow: the server in MLFLOW_TRACKING_URI, or http://127.0.0.1:5000
	@$(BIN)/lookalike ui

test: data lint types ## Run linter, type checker and tests
	$(BIN)/pytest --numprocesses $(TEST_JOBS) --no-loadscope-reorder

lint: env ## Run the linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: env ## Run the type checker
	$(BIN)/mypy

format: env ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: env ## Measure training against a plain loop, the speed of every family, the cost of metrics
	$(BIN)/python benchmarks/training_throughput.py
	$(BIN)/python benchmarks/families.py
	$(BIN)/python benchmarks/metrics.py

# The findings without a fix that were accepted, such as CVE-2026-1; docs/notes/audit.md has the reason for each.
ACCEPTED :=

audit: ## Look the pinned packages up in the public database of known vulnerabilities
	@test -x .lookalike/audit/bin/pip-audit || { $(PYTHON) -m venv .lookalike/audit \
	&& .lookalike/audit/bin/python -m pip install --quiet pip-audit; }
	.lookalike/audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off \
	--requirement constraints.txt $(addprefix --ignore-vuln ,$(ACCEPTED))

docs: env ## Build the documentation into site/
	$(BIN)/mkdocs build --strict

clean: ## Delete checkpoints and the local tracking store; keep data and results
	rm -rf .lookalike mlflow.db mlartifacts wandb dvc_plots site
