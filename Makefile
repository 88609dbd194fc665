.DEFAULT_GOAL := help
SHELL := /bin/bash
# the first Python that is new enough; `make PYTHON=... ` takes that one
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
else
EXACT := --exact
endif
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help setup setup-dev up test test-pythons test-frameworks test-generators test-slow test-faults soak fuzz mutants check format lint types audit lock bench bench-quick bench-peers profile drill dist docs screenshots first-paint clean

##@ Start here
help: ## this list
	@awk -F ':.*## ' '/^##@ /{printf "%s%s\n", n++ ? "\n" : "", substr($$0, 5)} /^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Install and run
setup: $(VENV)/.server ## install what running needs into $(VENV)
setup-dev: $(VENV)/.dev ## install what developing needs as well

# newer than what stands on it whenever the environment had to be made anew, else left as it is
$(VENV)/.whole: FORCE
	@test -n "$(PYTHON)" || { echo "error: metrics-app needs Python 3.11 or newer, and none was found: install one, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) requirements/environment.py $(VENV) $(EXACT)
FORCE:

INSTALL = pip install --quiet --disable-pip-version-check --retries 2
OFFLINE = { echo "error: a package could not be installed (above: why). The network is needed for this once; behind a proxy set HTTPS_PROXY, with a mirror PIP_INDEX_URL. Then run the same again." >&2; exit 1; }

$(VENV)/.server: requirements/server.txt pyproject.toml $(VENV)/.whole
	@echo "installing what running needs into $(VENV): about a minute the first time"
	@$(BIN)/$(INSTALL) --require-hashes -r requirements/server.txt || $(OFFLINE)
	@$(BIN)/$(INSTALL) --no-deps --no-build-isolation --editable . || $(OFFLINE)
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.server
	@echo "installing what developing needs as well"
	@$(BIN)/$(INSTALL) --require-hashes -r requirements/dev.txt || $(OFFLINE)
	@touch $@

up: setup ## start everything on 127.0.0.1:8080, an embedded Kafka included (ARGS="--workers 2")
	@$(BIN)/metrics-app up $(ARGS)

TOGETHER ?= 3 # files of tests at a time: most of them wait for a process most of the time
##@ Test
test: setup-dev ## all tests but the long ones, on a real Kafka (ARGS="-k fold")
	$(BIN)/pytest -m "not slow" -n $(TOGETHER) --dist loadfile --durations=12 $(ARGS)

# every other Python that this machine has, found on the PATH or among pyenv's
OTHER_PYTHONS ?= 3.12 3.13 3.14
find_python = $(shell for p in python$(1) "$$HOME"/.pyenv/versions/$(1).*/bin/python; do \
  $$p -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(1)")' 2>/dev/null && { echo $$p; break; }; done)
test-pythons: $(OTHER_PYTHONS:%=test-python-%) ## the tests that the version of Python matters to, on each other one that is here
test-python-%: FORCE
	@python="$(call find_python,$*)"; if [ -z "$$python" ]; then echo "Python $*: not on this machine, NOT TESTED"; else \
	  $(MAKE) --no-print-directory VENV=.venv-$* PYTHON=$$python TOGETHER=2 test ARGS="$(PYTHON_TESTS) $(ARGS)" && \
	  echo "Python $*: passed"; fi
PYTHON_TESTS ?= tests/wire tests/client/test_client.py tests/client/test_signals.py tests/faust_runtime/test_half_closed.py tests/cli/test_send.py tests/cli/test_up.py

test-frameworks: ## the client under the oldest and the newest version of each framework, each in an environment of its own (ARGS=flask)
	@$(PYTHON) -m tests.frameworks.matrix $(ARGS)

GENERATORS = .venv-generators
NODE_GENERATORS = openapi-typescript@7.13.0 openapi-fetch@0.17.0 typescript@5.9.3 @types/node@20
test-generators: setup-dev $(GENERATORS)/.done ## clients that are generated from /openapi.json send and ask: Python, and TypeScript where npm is here
	$(BIN)/pytest tests/http/test_generated_clients.py -rs $(ARGS)

test-slow: setup-dev ## the long tests that are no faults: fuzzing, false alarms, ten thousand steps of the simulation
	$(BIN)/pytest -m slow --ignore=tests/faults --durations=12 $(ARGS)

SEEDS ?= 1 2 3
FAULTS_TOGETHER ?= 2
test-faults: setup-dev ## every fault, the long ones too, once for each of SEEDS (ARGS="-k frozen" SEEDS=7)
	@started=$$SECONDS; failed=0; for seed in $(SEEDS); do \
	  echo "seed $$seed"; FAULTS_SEED=$$seed $(BIN)/python -m pytest -m kafka -n $(FAULTS_TOGETHER) --durations=0 tests/faults $(ARGS) || failed=$$((failed + 1)); \
	done; echo "$(words $(SEEDS)) runs, $$failed failed, $$((SECONDS - started)) s in all"; exit $$failed

SOAK_S ?= 1800
soak: setup-dev ## half an hour of everything that strangers tried, at random, under load (SOAK_S=60 FAULTS_SEED=7)
	SOAK_S=$(SOAK_S) $(BIN)/python -m pytest -s -m slow tests/faults/test_soak.py $(ARGS)

FUZZ_S ?= 60
fuzz: $(VENV)/.fuzz ## coverage-guided fuzzing of every place where bytes come in, and of a worker, FUZZ_S each (ARGS="http --keep")
	@FUZZ_S=$(FUZZ_S) $(BIN)/python -m tests.fuzz $(ARGS)
	$(if $(ARGS),,FUZZ_S=$(FUZZ_S) $(BIN)/pytest -s tests/fuzz/test_running_worker.py)

mutants: setup-dev ## prove that the tests find what they are there for: the product broken in known ways must fail them
	@$(BIN)/python -m tests.faults.run_mutants

check: setup-dev ## what a change must pass: format, lint, types, tests, a part of them on other Pythons
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory lint types audit test
	$(MAKE) --no-print-directory test-generators test-pythons

##@ Check by hand
format: setup-dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only --quiet .

lint: setup-dev ## ruff
	$(BIN)/ruff check .

types: setup-dev ## mypy --strict
	$(BIN)/mypy

audit: .venv-audit/.done ## known vulnerabilities of what is installed; says so where nobody can be asked
	@$(PYTHON) requirements/audit.py .venv-audit/bin/pip-audit requirements/server.txt

lock: setup-dev ## resolve the dependencies anew and lock them with hashes
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal --extra server --extra otlp pyproject.toml -o requirements/server.txt
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal --extra server --extra otlp --extra arrow --group dev -c requirements/server.txt pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal --group pyproject.toml:peers -o requirements/peers.txt
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal --group pyproject.toml:fuzz -o requirements/fuzz.txt
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal --group pyproject.toml:generators -o requirements/generators.txt
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal --group pyproject.toml:audit -o requirements/audit.txt

$(VENV)/.fuzz: requirements/fuzz.txt $(VENV)/.dev
	@$(BIN)/$(INSTALL) --require-hashes -r requirements/fuzz.txt || $(OFFLINE)
	@touch $@

.venv-audit/.done: requirements/audit.txt
	@$(PYTHON) requirements/environment.py .venv-audit
	@.venv-audit/bin/$(INSTALL) --require-hashes -r requirements/audit.txt && touch $@ || echo "pip-audit could not be installed (above: why)" >&2

$(GENERATORS)/.done: requirements/generators.txt
	@$(PYTHON) requirements/environment.py $(GENERATORS)
	@$(GENERATORS)/bin/$(INSTALL) --require-hashes -r requirements/generators.txt || $(OFFLINE)
	@if command -v npm > /dev/null; then npm install --prefix $(GENERATORS) --no-package-lock --no-fund --no-audit --silent $(NODE_GENERATORS) \
	    || echo "npm could not install (above: why): no client for TypeScript is made"; \
	  else echo "npm is not on this machine: no client for TypeScript is made"; fi
	@touch $@

.venv-peers/.done: requirements/peers.txt
	@$(PYTHON) requirements/environment.py .venv-peers
	@.venv-peers/bin/$(INSTALL) --require-hashes -r requirements/peers.txt || $(OFFLINE)
	@touch $@

##@ Measure
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

##@ Keep
docs: setup-dev ## write what is generated in docs/ anew, from the code
	$(BIN)/metrics-app settings --markdown > docs/settings.md
	$(BIN)/typer metrics_app.cli.main utils docs --name metrics-app --title "The command line" --output docs/cli.md
	$(BIN)/python -m tests.private_names
	$(BIN)/python -m tests.limits
	$(BIN)/python -m tests.metrics_page
	$(BIN)/python -m tests.openapi

dist: setup-dev ## build the sdist, and from it the wheel, into dist/
	@rm -rf dist
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 315532800) $(BIN)/uv build --quiet --offline --no-build-isolation --python $(BIN)/python && ls dist

screenshots: setup-dev ## the pictures of the page in docs/screenshots, by the tests of the page (needs Debian's chromium)
	@mkdir -p docs/screenshots && SCREENSHOTS=$(CURDIR)/docs/screenshots $(BIN)/pytest tests/ui -k pictures

first-paint: setup-dev ## how long a new reader looks at nothing, here and over the network of a phone (needs Debian's chromium)
	$(BIN)/pytest tests/ui -s -q -k painted

clean: ## remove the environment, caches and local data
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis build dist *.egg-info data
