# ELIS. `make` prints what there is to make. Needs Python 3.11 or newer and make; nothing else.

PYTHON ?=
WORKERS ?= auto
ARGS ?=

PYTHONS := python3 python3.13 python3.12 python3.11
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
SOURCES := $(patsubst %/,%,$(sort $(dir $(foreach folder,kit gateway services docs tests benchmarks,$(wildcard $(folder)/*.py)))))
PROTOS := $(wildcard protos/elis/*/v1/*.proto)

.DEFAULT_GOAL := help
.PHONY: help setup demo up test check format gen docs lock bench clean
.PHONY: check-format check-lint check-types check-imports check-protos check-schema check-repository

help: ## Print this help
	@echo 'ELIS: make TARGET [NAME=value …]'
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## \(.*\)$$/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r name text; do printf '  %-8s %s\n' "$$name" "$$text"; done

# --- running ---------------------------------------------------------------------------------------------------------

demo: $(RUNTIME) ## Play a story and explain it; stays up until Ctrl-C (ONCE=1, DATA=dir, PORT_OFFSET=n, SCENARIO=name)
	@exec $(BIN)/elis demo $(if $(filter-out 0 no false,$(ONCE)),--once) $(if $(DATA),--data '$(DATA)') $(if $(PORT_OFFSET),--port-offset '$(PORT_OFFSET)') $(if $(SCENARIO),--scenario '$(SCENARIO)')

up: $(RUNTIME) ## Run ELIS without a story until Ctrl-C (DATA=dir, PORT_OFFSET=n)
	@exec $(BIN)/elis up $(if $(DATA),--data '$(DATA)') $(if $(PORT_OFFSET),--port-offset '$(PORT_OFFSET)')

bench: $(DEV) ## Measure this machine: events per second, bytes, latency (ARGS="--help" for its options)
	@exec $(BIN)/python -m benchmarks $(ARGS)

# --- developing ------------------------------------------------------------------------------------------------------

setup: $(DEV) ## Make .venv with everything for development, from the lock
	@echo 'ready: $(VENV)'

test: $(DEV) ## Run the whole test suite (WORKERS=n, ARGS="tests/kit -k name")
	@$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadgroup $(ARGS)

check: check-format check-lint check-types check-imports check-protos check-schema check-repository ## Format, lint, types, import contracts, protos, schema, repository rules
	@echo 'all checks passed'

format: $(DEV) ## Format the code and fix what can be fixed
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/ruff check --fix $(SOURCES)

gen: $(DEV) ## Write the code generated from protos/ and the GraphQL schema
	@find protos/gen -name '*_pb2*.py*' -delete
	@$(call generate,protos/gen)
	@$(BIN)/python -m gateway.schema

docs: $(DEV) ## Write the settings table of docs/operations.md
	@$(BIN)/python docs/settings.py

lock: $(DEV) ## Write both lock files, keeping the versions that still fit (ARGS="--upgrade" for newer ones)
	@$(BIN)/uv pip compile $(COMPILE) --group build pyproject.toml -o requirements.lock $(ARGS)
	@$(BIN)/uv pip compile $(COMPILE) --group build --group dev --constraint requirements.lock pyproject.toml -o requirements-dev.lock $(ARGS)

clean: ## Remove .venv and every cache; keeps data folders
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find kit gateway services protos tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the parts of check ----------------------------------------------------------------------------------------------

check-format: $(DEV)
	@$(BIN)/ruff format --check $(SOURCES)

check-lint: $(DEV)
	@$(BIN)/ruff check $(SOURCES)

check-types: $(DEV)
	@$(BIN)/mypy $(SOURCES)

check-imports: $(DEV)
	@PYTHONPATH=.:protos/gen $(BIN)/lint-imports --no-logo

check-protos: $(DEV)
	@$(BIN)/buf lint
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call generate,"$$fresh") && \
	diff -r -q -x __pycache__ "$$fresh" protos/gen || { echo 'protos/gen is not what protos/ says: run make gen' >&2; exit 1; }

check-schema: $(DEV)
	@$(BIN)/python -m gateway.schema --check

check-repository: $(DEV)
	@$(BIN)/python -m pytest -q -p no:cacheprovider tests/test_repository.py tests/k8s

generate = PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I protos --python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) $(PROTOS)

# --- the virtual environment -----------------------------------------------------------------------------------------

COMPILE := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links

$(RUNTIME): $(BIN)/python requirements.lock pyproject.toml
	@$(call install,requirements.lock)
	@touch $@

# The development lock holds everything of the other one, in the same versions.
$(DEV): $(BIN)/python requirements-dev.lock pyproject.toml
	@$(call install,requirements-dev.lock)
	@touch $@ $(RUNTIME)

$(BIN)/python:
	@for python in $(PYTHON) $(PYTHONS); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && exec "$$python" kit/interpreters.py $(VENV) $(PYTHON); \
	done; \
	set -- $(PYTHON) python3; \
	echo "elis: needs Python 3.11 or newer, but '$$1' is $$("$$1" -c 'import platform; print(platform.python_version())' 2>/dev/null || echo missing); install one or say where it is: make PYTHON=/path/to/python3.11" >&2; exit 1

# uv takes seconds where pip takes minutes, but does not read pip's configuration: it is handed the index and the
# certificates, and pip does the work where that is not enough. Both check the hash of every file.
pip_setting = $$($(BIN)/python -m pip config list 2>/dev/null | sed -n "s/^[^=]*\.$(1)='\([^']*\)'$$/\1/p" | head -n 1)
install = set -e; echo 'installing $(1) into $(VENV) …'; \
	sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.lock > $(VENV)/uv.lock; \
	index="$(call pip_setting,index-url)"; certificates="$(call pip_setting,cert)"; \
	export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$index}" SSL_CERT_FILE="$${SSL_CERT_FILE:-$$certificates}" UV_HTTP_TIMEOUT="$${UV_HTTP_TIMEOUT:-30}"; \
	[ -n "$$UV_DEFAULT_INDEX" ] || unset UV_DEFAULT_INDEX; [ -n "$$SSL_CERT_FILE" ] || unset SSL_CERT_FILE; \
	$(PIP) --require-hashes -r $(VENV)/uv.lock && \
	$(UV) --require-hashes -r $(1) || { echo 'uv did not do it, pip takes over (a few minutes) …'; $(PIP) --require-hashes -r $(1); }; \
	$(PIP) --no-deps --no-build-isolation --editable .; \
	$(PREPARE)
# The parser of luqum writes its tables beside itself when it is first imported, and says so at length.
PREPARE = $(BIN)/python -c 'import luqum.parser' 2> /dev/null
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
UV = $(BIN)/uv pip install --quiet --python $(BIN)/python
