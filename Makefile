# All commands of the template; `make help` lists them. People and CI call the same ones.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SERVICE := <<cookiecutter.service_slug>>
PLATFORM := src/mlservice tests/platform ci
SOURCES := bench hooks nomad_double template_tests tools cookiecutter_refuse.py
# Where our own packages lie: the service's and the double's.
PACKAGES := $(CURDIR)/$(SERVICE)/src:$(CURDIR)/nomad_double/src
PYTEST := $(BIN)/pytest --durations 30
# Tests of one file share what they render and start, so a file is one process's. There are three
# processes on two cores, because the tests wait for others much of their time.
SHARED := --dist loadfile --no-loadscope-reorder --numprocesses
# Kinds of tests that run the platform in their own process; the others start processes.
INSIDE := template_tests/unit template_tests/property template_tests/contract
# Python files that both engines would copy must not be left in the service's folder.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.cache/pycache

.PHONY: help setup demo test test-servers lint format bench questions reference lock

help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## Install everything into .venv

$(READY): requirements.lock
	@echo "Installing into $(VENV) ..."
	@$(PYTHON) "$(SERVICE)/ci/uv.py" install $(VENV) requirements.lock

ifdef CLUSTER
demo: $(READY)
	@commands=$$(tools/servers.sh consul consul_template) && \
		PATH="$$commands:$$PATH" PYTHONPATH="$(CURDIR):$(PACKAGES)" \
		$(BIN)/python tools/cluster_demo.py
else
demo:  ## Render a service, train it, serve it, predict; KEEP=1 leaves it, CLUSTER=1 by Nomad and Consul
	@PYTHON="$(PYTHON)" tools/demo.sh $(if $(KEEP),KEEP=1)
endif

test: $(READY)  ## Run all tests that need Python alone
	@$(PYTEST) -m "not servers" $(SHARED) 3 --durations 5 --cov --cov-report= $(INSIDE)
	@$(PYTEST) -m "not servers" $(SHARED) 3 $(addprefix --ignore ,$(INSIDE))

test-servers: $(READY)  ## Run the tests that need tools from elsewhere, and fetch those
	@commands=$$(tools/servers.sh) && PATH="$$commands:$$PATH" $(PYTEST) -m servers $(SHARED) 2

lint: $(READY)  ## Check the template's own code, and what both engines share
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/mypy $(SOURCES)
	@cd "$(SERVICE)" && ../$(BIN)/ruff format --no-cache --check $(PLATFORM)
	@cd "$(SERVICE)" && ../$(BIN)/ruff check --no-cache $(PLATFORM)
	@$(BIN)/mypy "$(SERVICE)/src/mlservice"
	@$(BIN)/python tools/imports.py
	@$(BIN)/python tools/questions.py --check
	@PYTHONPATH="$(SERVICE)/src" $(BIN)/python -m tools.reference --check

format: $(READY)  ## Format the code and apply the linter's safe fixes
	@$(BIN)/ruff format $(SOURCES) "$(SERVICE)" && $(BIN)/ruff check --fix $(SOURCES)

bench: $(READY)  ## Measure serving, rendering, pipelines and swaps; PEERS=1 adds other frameworks
	@commands=$$(tools/servers.sh consul consul_template) && PATH="$$commands:$$PATH" \
		PYTHONPATH="$(PACKAGES)" $(BIN)/python -m bench

reference: $(READY)  ## Make the service's reference pages from the code
	@PYTHONPATH="$(SERVICE)/src" $(BIN)/python -m tools.reference

questions: $(READY)  ## Make cookiecutter.json from copier.yml
	@$(BIN)/python tools/questions.py

lock: $(READY)  ## Resolve all requirements to lock files
	@tools/lock.sh $(VENV)
