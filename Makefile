# The project's commands. `make` alone lists them; what they run stands in bin/, their settings in pyproject.toml.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

BIN := .venv/bin
# Finds, or installs and starts, the services; then gives a command their URLs. A plain eval would hide a failure.
WITH_SERVICES := urls=$$(bin/services install) && eval "$$urls" && exec
# Gives a command services of its own.
LEND := $(BIN)/python -m tests.lend

.PHONY: help setup run test test-long faults soak fuzz check format docs services bench mutants lock audit clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make the environment in .venv/ from the lock file (PYTHON=python3.12 chooses a Python)
	@bin/setup

run: setup ## Start Jobmill here, run a first job, serve until Ctrl-C (PORT, JOBMILL_DATA_DIR)
	@$(BIN)/jobmill up --demo examples/iris.csv

test: setup ## Run all tests but the long ones, quick ones first (ARGS="-k name" goes to pytest)
	@$(LEND) bin/test $(ARGS)

test-long: setup ## Run the long tests that `make test` leaves out, which takes hours (ARGS="-k name")
	@$(LEND) $(BIN)/python -m pytest -m long $(ARGS)

faults: setup ## Break a running Jobmill in every way there is, long ones included (ARGS="-k name")
	@$(LEND) bin/test --faults $(ARGS)

soak: setup ## Hold a Jobmill under load for HOURS=8 with a fault a minute, and see what grows (ARGS="--rate 50")
	@$(WITH_SERVICES) $(BIN)/python -m tests.faults.soak --hours $(or $(HOURS),0.5) $(ARGS)

fuzz: setup ## Hold every operation against the API's description (EXAMPLES=1000 requests each, SEED=7)
	@$(LEND) env JOBMILL_TEST_FUZZ_EXAMPLES=$(or $(EXAMPLES),1000) \
		JOBMILL_TEST_FUZZ_SEED=$(or $(SEED),$(shell date +%s)) \
		JOBMILL_TEST_FUZZ_PHASES=examples,coverage,fuzzing,stateful $(BIN)/python -m pytest tests/acceptance/test_fuzz.py $(ARGS)

check: setup ## Check format, lint, types, import contracts, dead code, locks
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/mypy bin
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/python bin/lock.py --check
	$(BIN)/python bin/docs.py --check
	bin/no-registry

format: setup ## Format the code and fix what the linter can fix
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

mutants: setup ## Take out every guard, one at a time, and see its tests fail (ARGS="lease" chooses by words)
	@$(LEND) $(BIN)/python bin/mutate.py $(ARGS)

docs: setup ## Write what docs/ repeats from the code
	@$(BIN)/python bin/docs.py

services: setup ## Find or start PostgreSQL, RabbitMQ and Redis, and print their URLs
	@bin/services install

bench: setup ## Measure throughput, latency and memory on this machine (ARGS=peers: beside its peers; others: docs/benchmarks.md)
	@$(WITH_SERVICES) $(BIN)/python -m bench $(ARGS)

lock: setup ## Remake the lock files (ARGS=--upgrade, or ARGS="--upgrade-package flask")
	@$(BIN)/python bin/lock.py $(ARGS)

audit: setup ## Look the locked packages up among known vulnerabilities
	$(BIN)/pip-audit --strict --requirement requirements/dev.lock --require-hashes --disable-pip

clean: ## Remove the environment and all caches, never the data in .jobmill/
	rm -rf .venv .venv-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info client/build client/*.egg-info
	find . -path ./.jobmill -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
