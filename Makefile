# `make help` lists everything. The two commands that matter: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Beside it, for the tests that need large libraries.
HEAVY       := .venv-heavy
HEAVY_STAMP := $(HEAVY)/.installed
# Foreign clients: MLflow as its users have it, with nothing of ours.
MLFLOW3 := .venv-mlflow
MLFLOW2 := .venv-mlflow2
# Two workers, a file of tests at a time: most tests wait for processes that they start.
WORKERS ?= -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-gate test-kafka test-heavy test-mlflow test-torch test-all lint types contracts check bench format release-schemas clean

help:  ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: $(STAMP)  ## Create .venv with the package and everything its tests need

# An environment with the package and a group of pyproject.toml: $(call environment,FOLDER,GROUP).
define environment
@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Runtide needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Set PYTHON=python3.12, say.")'
@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
@echo "Setting up $(1) (the first time takes a minute or two) ..."
@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]' --group $(2)
@touch $@
endef

# An environment with packages and nothing of ours: $(call foreign,FOLDER,PACKAGES).
define foreign
@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
@echo "Setting up $(1) (the first time takes a minute or two) ..."
@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --prefer-binary $(2)
@touch $@
endef

$(STAMP): pyproject.toml
	$(call environment,$(VENV),dev)

$(HEAVY_STAMP): pyproject.toml
	$(call environment,$(HEAVY),heavy)

$(MLFLOW3)/.installed:
	$(call foreign,$(MLFLOW3),'mlflow>=3.1' psycopg2-binary psutil xgboost-cpu)

$(MLFLOW2)/.installed:
	$(call foreign,$(MLFLOW2),'mlflow<3' setuptools psutil)

demo: $(STAMP)  ## Run the main job: stack up, train three models, register, deploy, score, compare
	@$(BIN)/runtide demo --data .demo

test: $(STAMP)  ## Run the whole test suite but the long tests (under 10 minutes on 2 cores)
	@$(BIN)/python -m pytest $(WORKERS) -m "not slow and not gate and not apache and not heavy"

test-gate: $(STAMP)  ## Run the tests that CI runs beside `make test`: kills, restarts, installations
	@$(BIN)/python -m pytest $(WORKERS) -m "gate and not slow and not apache and not heavy"

test-kafka: $(STAMP)  ## Run the tests that need Apache Kafka (Java 17 and Maven; else they are skipped)
	@$(BIN)/python -m pytest -n 0 -m "apache and not slow" tests/conformance

test-heavy: $(HEAVY_STAMP)  ## Run the tests that need large libraries, in an environment of their own (.venv-heavy)
	@$(HEAVY)/bin/python -m pytest $(WORKERS) -m heavy $$(grep -rl 'mark\.heavy' tests --include='test_*.py')

test-mlflow: $(STAMP) $(MLFLOW3)/.installed $(MLFLOW2)/.installed  ## Run the tests with foreign MLflow clients, 3 and 2, on our gateway and a genuine server
	@RUNTIDE_TEST_MLFLOW_PYTHON=$(MLFLOW3)/bin/python RUNTIDE_TEST_MLFLOW2_PYTHON=$(MLFLOW2)/bin/python \
	  $(BIN)/python -m pytest -n 0 tests/acceptance/test_mlflow_client.py

test-torch:  ## Run the tests that need PyTorch, on a Debian with its CPU build below .tools/torch (needs root)
	@bash tests/test-torch.sh

test-all: $(STAMP)  ## Run every test, the long ones too; those of large libraries only where these are installed
	@$(BIN)/python -m pytest $(WORKERS)

bench: $(STAMP)  ## Run the benchmarks and print their figures
	@$(BIN)/python -m pytest tests/benchmarks -m "slow or not slow" -s -n 0

lint: $(STAMP)  ## Check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(STAMP)  ## Apply style and formatting
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(STAMP)  ## Check types, strictly
	@$(BIN)/mypy

contracts: $(STAMP)  ## Check that imports point down
	@$(BIN)/lint-imports --no-cache

release-schemas: $(STAMP)  ## Keep changed event schemas as new released versions
	@$(BIN)/python -m runtide_schemas.release
	@$(BIN)/python -m tests.unit.test_schemas_golden

check: lint types contracts test test-gate test-kafka  ## Everything that CI runs

clean:  ## Remove the environments, caches and the demo's data
	rm -rf $(VENV) $(HEAVY) $(MLFLOW3) $(MLFLOW2) .demo .mypy_cache .ruff_cache .pytest_cache dist build
