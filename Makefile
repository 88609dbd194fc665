.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: help setup setup-dev up test test-slow test-faults mutants check format lint types lock bench bench-quick bench-peers profile drill docs clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: .venv/.server ## install what running needs into .venv
setup-dev: .venv/.dev ## install what developing needs as well

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.server: requirements/server.txt pyproject.toml | .venv/bin/python
	@echo "installing what running needs into .venv: about a minute the first time"
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/server.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: requirements/dev.txt .venv/.server
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

up: setup ## start everything on 127.0.0.1:8080, an embedded Kafka included (ARGS="--workers 2")
	@$(BIN)/metrics-app up $(ARGS)

TOGETHER ?= 3 # files of tests at a time: most of them wait for a process most of the time
test: setup-dev ## all tests but the long ones, on a real Kafka (ARGS="-k fold")
	$(BIN)/pytest -m "not slow" -n $(TOGETHER) --dist loadfile --durations=12 $(ARGS)

test-slow: setup-dev ## the long tests that are no faults: fuzzing, false alarms, ten thousand steps of the simulation
	$(BIN)/pytest -m slow --ignore=tests/faults --durations=12 $(ARGS)

SEEDS ?= 1 2 3
FAULTS_TOGETHER ?= 2
test-faults: setup-dev ## every fault, the long ones too, once for each of SEEDS (ARGS="-k frozen" SEEDS=7)
	@started=$$SECONDS; failed=0; for seed in $(SEEDS); do \
	  echo "seed $$seed"; FAULTS_SEED=$$seed $(BIN)/python -m pytest -m kafka -n $(FAULTS_TOGETHER) --durations=0 tests/faults $(ARGS) || failed=$$((failed + 1)); \
	done; echo "$(words $(SEEDS)) runs, $$failed failed, $$((SECONDS - started)) s in all"; exit $$failed

mutants: setup-dev ## prove that the tests find what they are there for: the product broken in known ways must fail them
	@$(BIN)/python -m tests.faults.run_mutants

check: setup-dev ## what a change must pass: format, lint, types, tests
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory lint types test

format: setup-dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only --quiet .

lint: setup-dev ## ruff
	$(BIN)/ruff check .

types: setup-dev ## mypy --strict
	$(BIN)/mypy

lock: setup-dev ## resolve the dependencies anew and lock them with hashes
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal --extra server pyproject.toml -o requirements/server.txt
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal --extra server --group dev -c requirements/server.txt pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal --group pyproject.toml:peers -o requirements/peers.txt

.venv-peers/.done: requirements/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/peers.txt
	@touch $@

bench: setup-dev ## measure ours: cost per value, ingest, end to end, many keys, sketches; writes results, tables, plots
	@$(BIN)/python -m benchmarks $(ARGS)

bench-quick: setup-dev ## the same for a look, in under a minute; the docs stay as they are
	@$(BIN)/python -m benchmarks --quick $(ARGS)

bench-peers: setup-dev .venv-peers/.done ## ours beside Faust, Quix Streams and Kafka Streams, in one run (ARGS=--quick)
	@$(BIN)/python -m benchmarks peers $(ARGS)

profile: setup-dev ## flame graphs of our processes under load, and where their time goes
	@$(BIN)/python -m benchmarks.profile $(ARGS)

drill: setup ## kill workers and Kafka of a private installation under load, and count every value (ARGS="--kills 2")
	@$(BIN)/metrics-app drill --fresh $(ARGS)

docs: setup ## write docs/settings.md and docs/cli.md anew, from the code
	$(BIN)/metrics-app settings --markdown > docs/settings.md
	$(BIN)/typer metrics_app.cli.main utils docs --name metrics-app --title "The command line" --output docs/cli.md

clean: ## remove the environment, caches and local data
	rm -rf .venv .venv-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis build *.egg-info data
