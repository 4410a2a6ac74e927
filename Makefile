# Every target makes the environment (.venv) it needs from a bare machine with python3 >= 3.11 and make.
#   make figures | paper | real | test | proofs | notebooks | explorer | docs | bench | lint | env

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

export JAX_PLATFORMS ?= cpu
export JAX_ENABLE_X64 := 1
# Compiled programs are kept between runs: a second run of anything starts in a fraction of the time.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES ?= -1
# So are compiled modules, whatever a shell says: a process that compiles all of jax anew takes three times as long.
unexport PYTHONDONTWRITEBYTECODE

# Compiling takes longer than running here. A program left in one piece, loops emitted the older way: half the time.
# jaxlib 0.10, which Python 3.11 gets, is the last to know the older way; a later one would stop.
export XLA_FLAGS := $(XLA_FLAGS) --xla_cpu_parallel_codegen_split_count=1
ifeq ($(shell $(firstword $(wildcard $(BIN)/python) $(PYTHON)) -c 'import sys; print(sys.version_info < (3, 12))'),True)
XLA_FLAGS += --xla_cpu_use_fusion_emitters=false
endif

.DEFAULT_GOAL := help
.PHONY: help env figures paper real test proofs notebooks explorer docs bench reference lint format gallery lock clean

help: ## what there is to make
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

env: $(VENV)/dev.stamp ## the environment alone, for every target below

figures: $(VENV)/figures.stamp ## every figure, into figures/out, the paper's first (QUICK=1: fewer points, for CI)
	@$(BIN)/python figures/build.py $(if $(QUICK),--quick)

paper: $(VENV)/figures.stamp ## the figures of the paper (Figs. 1 to 4) alone
	@$(BIN)/python figures/build.py --paper $(if $(QUICK),--quick)

real: $(VENV)/real.stamp ## the runs on a pretrained language model behind fig_real_*: an hour and a half, a download of 95 MB
	@JAX_ENABLE_X64=0 $(BIN)/python -m figures.real_runs
	@$(BIN)/python figures/build.py $(foreach name,sentiment cosine tokens account claims,--only real_$(name))

# Tests compile thousands of small programs and run each a few times: the less is optimised, the better. So do figures of
# few points, whose programs tests find again.
test reference $(if $(QUICK),figures paper): export XLA_FLAGS := $(XLA_FLAGS) --xla_backend_optimization_level=0
# A file is one worker's, so that no other compiles its programs as well; the largest come first (tests/conftest.py).
test: $(VENV)/dev.stamp ## the whole test suite, property tests included
	HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-ci} $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

proofs: ## compile the Coq proofs and print the axioms they rest on
	@$(PYTHON) -m proofs.check

# Two at once, the longest first: one alone leaves the second core idle most of the time. Less optimised, as figures are.
notebooks: export XLA_FLAGS := $(XLA_FLAGS) --xla_backend_optimization_level=1
notebooks: $(VENV)/dev.stamp ## execute every notebook and compare with what it shows (UPDATE=1: keep what is new)
	@if $(BIN)/python -c 'from toymodel.models import pretrained; pretrained.load()'; then with=$(REAL); \
	else echo "$(REAL) is left out: its weights cannot be had."; fi; \
	printf '%s\n' $$with $(filter-out $(REAL),$(sort $(wildcard notebooks/*.ipynb))) | \
	xargs -n 1 -P 2 $(BIN)/python notebooks/execute.py $(if $(UPDATE),--update)
REAL := notebooks/09_real_model.ipynb

# Only this machine can reach it, and it asks nothing of any other.
explorer: export MARIMO_SKIP_UPDATE_CHECK := 1
explorer: $(VENV)/dev.stamp ## sliders in the browser: one pair, one step, what it does (Ctrl-C ends it)
	@PYTHONPATH=$(CURDIR) $(BIN)/marimo run notebooks/explorer/app.py --host 127.0.0.1

docs: $(VENV)/dev.stamp ## the documentation, into docs/_build/html; broken links and undocumented public names fail
	@$(BIN)/python -m sphinx -W --keep-going -q -E -d docs/_build/doctrees docs docs/_build/html
	@echo "The documentation is docs/_build/html/index.html."

bench: export XLA_FLAGS := # as users have it
bench: $(VENV)/bench.stamp ## the benchmarks: ratios against named alternatives, in one run
	$(BIN)/python -m benchmarks.token_gram
	$(BIN)/python -m benchmarks.neural_gram
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.sweep
	$(BIN)/python -m benchmarks.torch_gram

reference: $(VENV)/reference.stamp ## against Hugging Face transformers: our GPT-2 and Llama, exported gradients, toymodel.huggingface
	$(BIN)/python -m pytest tests/test_transformer.py tests/test_llama.py tests/test_torch_gradients.py \
	  tests/test_huggingface.py -k 'gpt2 or llama or torch_gradients or huggingface'

SITE := --line-length 88 docs/*.md examples/README.md
lint: $(VENV)/dev.stamp ## formatter, linter, type checker
	$(BIN)/ruff format --check .
	$(BIN)/ruff format --check $(SITE)
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp ## rewrite the sources in the formatter's style
	$(BIN)/ruff format .
	$(BIN)/ruff format $(SITE)
	$(BIN)/ruff check --fix .

gallery: $(VENV)/figures.stamp ## the small pictures that the README shows
	@$(BIN)/python figures/build.py --gallery

lock: ## recompute requirements/*.txt (needs uv); names no index host
	uv pip compile pyproject.toml requirements/build.in --extra figures \
	  -o requirements/figures.txt $(LOCK_OPTIONS)
	uv pip compile pyproject.toml requirements/build.in --extra figures --extra notebooks --extra explorer --extra docs \
	  --extra test --extra lint \
	  -c requirements/figures.txt -o requirements/dev.txt $(LOCK_OPTIONS)
LOCK_OPTIONS := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
  --no-header --no-annotate --quiet

clean: ## remove everything that make made
	rm -rf $(VENV) .cache docs/_build docs/made figures/out proofs/build

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "toymodel needs Python 3.11 or newer: make PYTHON=/path/to/python3.x"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "python3 lacks venv; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }

# Packages come by uv where it is installed, which is quicker, and else by pip. Python compiles a module when it is first
# imported; compiling all of them here would take as long as everything else.
INSTALL = $(if $(shell command -v uv),uv pip install --python $(BIN)/python,$(BIN)/python -m pip install --disable-pip-version-check --no-compile) --quiet

# One environment, filled in steps: figures.txt is what `make figures` needs, dev.txt adds tests, lint and notebooks.
$(VENV)/%.stamp: requirements/%.txt pyproject.toml | $(BIN)/python
	@echo "Installing the packages of $< into $(VENV) (once; some seconds) ..."
	@$(INSTALL) --require-hashes -r $<
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

# torch is compared against, and only toymodel.huggingface uses it; its CPU build differs from machine to machine, so it has no hash here.
$(VENV)/bench.stamp: $(VENV)/dev.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[bench]'
	@touch $@
$(VENV)/reference.stamp: $(VENV)/dev.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[reference]'
	@touch $@
$(VENV)/real.stamp: $(VENV)/figures.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[pretrained]'
	@touch $@
.PRECIOUS: $(BIN)/python $(VENV)/%.stamp
