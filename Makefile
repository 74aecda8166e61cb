# Needs Python 3.11, 3.12 or 3.13; everything else is installed into $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ADAPTER ?= prefix
TOKENIZER ?= words
SEED ?= 0
DEMO := runs/demo_$(ADAPTER)$(if $(filter bytes,$(TOKENIZER)),_bytes)
HYPERJAX := $(BIN)/hyperjax

.PHONY: help install demo test coverage test-slow test-interop mutants test-extremes \
  nightly docs lint check format benchmark benchmarks-all clean

help:
	@echo "make demo [ADAPTER=lora|ia3|memory|both]  watch a hypermodel learn, in minutes"
	@echo "make demo TOKENIZER=bytes        the same by bytes, which takes far longer"
	@echo "make study                       hypermodels beside their baselines, in twelve minutes"
	@echo "make study-sni DATA_DIR=...      the same on Super-NaturalInstructions, in hours"
	@echo "make test                        the tests, in minutes"
	@echo "make coverage                    the same, and the lines that they do not reach"
	@echo "make test-slow                   those that train, restart and start processes"
	@echo "make test-interop                tests that need torch, transformers, peft"
	@echo "make test-extremes               make test in the oldest and the newest Python"
	@echo "make nightly [PARTS=\"kills\"]     all Pythons, searches, mutants, kills; in hours"
	@echo "make lint                        formatter, linter, types, import contracts"
	@echo "make docs                        the pages of docs/ as a site, in site/"
	@echo "make mutants [SEED=1 N=60]       deliberate faults that the tests do not notice"
	@echo "make check                       make lint, and the core's quick tests, in two minutes"
	@echo "make benchmark [T5X_PATH=...]    one table of speeds beside peers and limits, in minutes"
	@echo "make benchmarks-all DATA_DIR=... flops, step time, adapters, stores, in hours"
	@echo "make install                     what the others need, in $(VENV)"

# setuptools warns about every editable install of a layout like ours.
export PYTHONWARNINGS ?= ignore:Editable installation

# One stamp per set of requirements, so that a second make starts at once: what runs
# and reports need, what the tests need besides, and what the linters do.
install: $(VENV)/.installed-test
$(VENV)/.installed: setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[train,report]"
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@

# Plain hyperjax commands over the gin files of gin/runs; each step starts from
# the one before. Only the table and the picture at the end are the demo's own.
SETTINGS = --gin.CACHE_DIR=$(DEMO)/tokens --gin.USE_CACHED_TASKS=True
KIND = --gin_file=adapters/$(ADAPTER).gin
SEEDED = --gin.RANDOM_SEED=$(SEED)
STEP = --gin_file=runs/demo$(if $(filter bytes,$(TOKENIZER)),_bytes)
demo: $(VENV)/.installed
	rm -rf $(DEMO) && mkdir -p $(DEMO) && date +%s > $(DEMO)/started
	@echo "== storing the tokens of all steps"
	$(HYPERJAX) cache $(STEP)_cache.gin --gin.CACHE_DIR=$(DEMO)/tokens
	@echo "== step 1: a tiny T5 learns to follow rules that are stated"
	$(HYPERJAX) train $(STEP)_pretrain.gin $(SETTINGS) $(SEEDED) \
	  --gin.MODEL_DIR=$(DEMO)/backbone
	@echo "== step 2: hyperpretraining, a hypermodel for the frozen T5 ($(ADAPTER))"
	$(HYPERJAX) train $(KIND) $(STEP)_hyperpretrain.gin $(SETTINGS) $(SEEDED) \
	  --gin.INITIAL_CHECKPOINT_PATH=$(DEMO)/backbone --gin.MODEL_DIR=$(DEMO)/hyperpretrain
	@echo "== step 3: multi-task fine-tuning from demonstrations alone"
	$(HYPERJAX) train $(KIND) $(STEP)_multitask.gin $(SETTINGS) $(SEEDED) \
	  --gin.INITIAL_CHECKPOINT_PATH=$(DEMO)/hyperpretrain --gin.MODEL_DIR=$(DEMO)/multitask
	@echo "== step 4: scoring rules that were never trained on"
	$(HYPERJAX) eval $(STEP)_eval.gin $(SETTINGS) \
	  --gin.CHECKPOINT_PATH=$(DEMO)/multitask
	@$(BIN)/python -m hyperjax.report.demo $(DEMO) --adapter $(ADAPTER) --seed $(SEED) \
	  --seconds $$(( $$(date +%s) - $$(cat $(DEMO)/started) ))

# Neighbours share models and programs: a process takes what another has not begun.
PYTEST = -m pytest -n 2 --dist worksteal --durations=20
test: $(VENV)/.installed-test
	$(BIN)/python $(PYTEST) -m "not slow"

# What is measured, and of which lines, is in pyproject.toml.
coverage: $(VENV)/.installed-test
	$(BIN)/python $(PYTEST) -m "not slow" --cov --cov-report=term-missing:skip-covered

test-slow: $(VENV)/.installed-test
	$(BIN)/python $(PYTEST) -m slow

# With the lowest and with the highest versions of what setup.py requires.
test-extremes: $(VENV)/.installed-dev
	$(BIN)/nox --session extremes

# N deliberate faults, drawn by SEED, each against the tests that reach it and then all
# quick ones: which are not noticed? KEEP names a folder for what tests reach.
N ?= 60
mutants: $(VENV)/.installed-dev
	$(BIN)/python -m tests.mutants --seed $(SEED) --count $(N) \
	  $(if $(KEEP),--reach $(KEEP))

# PARTS are those of tests/nightly.py; docs/nightly.md says what came of the last.
nightly: $(VENV)/.installed-dev
	$(BIN)/python -m tests.nightly $(PARTS)

# In an environment of its own: the other tests show that none of this is needed.
# pip may be told to prefer torch's build for CPUs, which spares CUDA's gigabytes.
INTEROP := .venv-interop
test-interop: $(INTEROP)/.installed
	$(INTEROP)/bin/python $(PYTEST) tests/interop \
	  tests/commands/import_test.py tests/serving/export_test.py \
	  tests/serving/export_programs_test.py
$(INTEROP)/.installed: setup.py pyproject.toml
	$(PYTHON) -m venv $(INTEROP)
	$(INTEROP)/bin/python -m pip install --quiet --upgrade pip
	$(INTEROP)/bin/python -m pip install --quiet --editable ".[test,interop]"
	@touch $@

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

# Strict: a link or a name that leads nowhere is an error.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The quick tests of what all the rest stands on; make test has those of the rest.
check: lint
	$(BIN)/python $(PYTEST) -m "not slow" tests $(addprefix --ignore=tests/,\
	  evaluation interop models/flops_test.py artifacts/t5_sizes_test.py real serving)

# The last ones need the demo's model (make demo ADAPTER=lora) and real data:
# T5X_PATH=A:B make benchmark: beside t5x, which is in these folders.
benchmark: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.table

# make benchmarks-all DATA_DIR=/data: everything in docs/benchmarks.md, in hours.
benchmarks-all: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.step_flops
	$(BIN)/python -m benchmarks.step_time
	$(if $(wildcard runs/demo_lora/multitask),\
	  $(BIN)/python -m benchmarks.adapt_time --model=runs/demo_lora/multitask && \
	  $(BIN)/python -m benchmarks.serving --model=runs/demo_lora/multitask && \
	  $(BIN)/python -m benchmarks.updates --model=runs/demo_lora/multitask)
	$(BIN)/python -m benchmarks.import_memory
	$(if $(DATA_DIR),$(BIN)/python -m benchmarks.episodes --data_dir=$(DATA_DIR))
	$(if $(DATA_DIR),$(BIN)/python -m benchmarks.stores --data_dir=$(DATA_DIR))
	$(if $(DATA_DIR),for name in sni p3 metaicl; do \
	  $(BIN)/python -m benchmarks.padding --data_dir=$(DATA_DIR) --benchmark=$$name \
	  || exit 1; done)

format: $(VENV)/.installed-dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

include study.mk

clean:
	rm -rf $(VENV) $(INTEROP) .nox build dist *.egg-info runs/demo_* runs/study_*
