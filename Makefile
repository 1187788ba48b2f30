# The short entries. Each works on a fresh machine: it makes .venv and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
IMAGES ?=
ASSETS ?=

.PHONY: help demo test lint dev bench protos wheel clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade "pip>=25"

# Built once for a set of files: the wheel that demo and tests install.
SOURCES := $(shell git ls-files -co --exclude-standard -- protos service export clients pyproject.toml hatch_build.py README.md LICENSE 2>/dev/null)
dist/.built: $(BIN)/python $(SOURCES)
	rm -rf dist
	$(PIP) wheel --quiet --no-deps --wheel-dir dist .
	touch $@

$(VENV)/.server: constraints.txt dist/.built
	$(PIP) install --quiet -c constraints.txt "$$(ls dist/*.whl)[server]"
	$(PIP) install --quiet --no-deps --force-reinstall dist/*.whl
	touch $@

$(VENV)/.all: constraints.txt dist/.built
	$(PIP) install --quiet -c constraints.txt "$$(ls dist/*.whl)[server,export,dev]"
	$(PIP) install --quiet --no-deps --force-reinstall dist/*.whl
	touch $@

wheel: dist/.built  ## Build the wheel into dist/

demo: $(VENV)/.server  ## Watch it work: serve, embed, learn, look up (IMAGES=folder for yours)
	$(BIN)/trunkline demo $(IMAGES)

test: $(VENV)/.all lint  ## Lint, then all tests, against the built wheel
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.all protos  ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=service:export:clients/python:protos $(BIN)/lint-imports

protos: $(VENV)/.all  ## Generate the protobuf modules beside their .proto files
	@$(PIP) install --quiet -c constraints.txt grpcio-tools hatchling
	@$(BIN)/python hatch_build.py > /dev/null

dev: $(VENV)/.all  ## An editable installation, for working on the code
	$(PIP) install --quiet -c constraints.txt --no-deps --force-reinstall --editable .

clean:  ## Remove what was built
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache
