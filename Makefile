# Needs Python 3.11 or newer; everything else is installed into $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ADAPTER ?= prefix
DEMO := runs/demo_$(ADAPTER)
TOKENS := runs/demo_tokens

.PHONY: help install demo test check format benchmark clean

help:
	@echo "make demo [ADAPTER=prefix|lora]  watch a hypermodel learn, in minutes"
	@echo "make test                        all tests"
	@echo "make check                       formatter, linter, types, imports, quick tests"
	@echo "make benchmark                   flops, speed and memory"
	@echo "make install                     what the others need, in $(VENV)"

# One stamp per set of requirements, so that a second make starts at once.
install: $(VENV)/.installed
$(VENV)/.installed: setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@

demo: $(VENV)/.installed
	PATH="$(abspath $(BIN)):$$PATH" bash demo/run.sh $(ADAPTER)

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 -m "not slow"

format: $(VENV)/.installed-dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:
	rm -rf $(VENV) build dist *.egg-info runs
