# Everything a person or a CI job runs. `make help` explains; the first use of any target sets up .venv/.
PYTHON ?= python3
VENV := .venv
LOCK := requirements.lock
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OTHERS := python3.12 python3.13 python3.14
NOTEBOOK := notebooks/01_compare_variants.ipynb
PORT ?= 5000
# A shell or image that forbids bytecode would compile 2,500 modules at every start, which is most of a short job.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup demo local demo-local lab ui server test test-all nightly versions check docs pictures bench lock clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(READY)  ## make .venv/ with the locked versions (every other target does it too)

$(READY): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or later is needed, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked packages into $(VENV)/ (once; under a minute with a quick network) ..."
	@awk '/^[^ ]/ {of_uv = /^uv==/} of_uv' requirements.lock > $(VENV)/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r $(LOCK)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: ASKED := $(if $(BASE_URL),-p base_url "$(BASE_URL)") $(if $(MODEL),-p models "$(MODEL)" -p first 20 -p repeats 1 -p temperatures "[]")
demo: $(READY)  ## compare variants: run notebook 01 (BASE_URL=... MODEL=provider/id: 20 cases on your own endpoint)
	@test -z "$(BASE_URL)" || test -n "$(MODEL)" || { echo 'BASE_URL needs MODEL=provider/id: the model to ask there'; exit 2; }
	@$(if $(MODEL),$(BIN)/llmlab run $(NOTEBOOK) $(ASKED) --dry-run,true)
	@$(BIN)/llmlab run $(NOTEBOOK) $(ASKED)
	@echo
	@echo "Next: 'make lab' opens the notebook, 'make ui' shows the logged runs and bundles in MLflow."

local: $(READY)  ## install a small language model that runs on this machine (150 MB)
	@$(BIN)/llmlab local setup

demo-local: local  ## notebook 01 on real tokens: 40 messages, three prompts, two temperatures, on this machine
	@echo "360 calls to a small language model on this machine: under four minutes on two idle cores, longer on busy ones; seconds the next time."
	@$(BIN)/llmlab run $(NOTEBOOK) -p experiment experiments/orders -p first 40

lab: $(READY)  ## open copies of the notebooks in JupyterLab (in notebooks/work/; what you changed there stays)
	@mkdir -p notebooks/work
	@for each in notebooks/*.ipynb; do test -e "notebooks/work/$${each##*/}" || cp "$$each" notebooks/work/; done
	@$(BIN)/jupyter lab --notebook-dir=. notebooks/work/01_compare_variants.ipynb

ui: $(READY)  ## open MLflow on the logged runs (PORT=5000)
	@$(BIN)/llmlab ui --port $(PORT)

server: $(READY)  ## start a tracking server for a team, bound to this machine (PORT=5000)
	@$(BIN)/llmlab server --port $(PORT)

test: $(READY)  ## the tests that take some minutes
	@$(BIN)/python -m pytest -q -n auto --dist loadfile -p no:benchmark -m 'not slow and not browser and not bench and not nightly'

test-all: $(READY)  ## the slow ones too: kills, notebooks, a real browser
	@$(BIN)/python -m pytest -q -n auto --dist loadfile -p no:benchmark -m '(slow or browser) and not bench and not nightly'

nightly: $(READY)  ## the simulations in full, with the rates that they give
	@$(BIN)/python -m pytest -q -n auto -p no:benchmark -m nightly -rP --no-header

versions: $(READY)  ## the tests on other Pythons (OTHERS=...) and on the lowest versions that pyproject.toml allows
	@for each in $(OTHERS); do $$each -c '' 2> /dev/null || { echo "$$each is not here"; continue; }; \
		$(MAKE) --no-print-directory test VENV=.venv-$${each##*/} PYTHON=$$each || exit 1; done
	@$(BIN)/uv pip compile --quiet --resolution lowest-direct --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--python-version 3.11 --extra dev pyproject.toml -o .venv-lowest.lock
	@$(MAKE) --no-print-directory test VENV=.venv-lowest LOCK=.venv-lowest.lock

check: $(READY)  ## lint, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: $(READY)  ## a reference of every public name, made from the docstrings (docs/index.html)
	@$(BIN)/python -m pdoc --docformat google -o docs llmlab $(subst /,.,$(patsubst %/,%,$(filter-out %__pycache__/,$(wildcard llmlab/*/)))) '!llmlab\.\w+\.'

pictures: local  ## take the README's pictures anew (Chromium is needed), to look at each
	@$(BIN)/python -m tests.pictures

bench: $(READY)  ## the speed promises, as ratios within one run
	@$(BIN)/python -m pytest -q tests/bench -m bench -r s --tb no --no-header

lock: $(READY)  ## renew requirements.lock from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--python-version 3.11 --extra dev pyproject.toml -o requirements.lock

clean:  ## remove .venv/ and caches (mlruns/ stays)
	@rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis
