# Gorn. `make help` lists what there is. Needs git, GNU make and Python 3.11 (or PYTHON=python3.12).
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

export DO_NOT_TRACK = true
# Whatever the caller's environment says: without bytecode every process of ours would compile our modules anew.
export PYTHONDONTWRITEBYTECODE =
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

.DEFAULT_GOAL := help
.PHONY: help install run test lint format proof baselines lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

install: $(READY) ## the virtual environment .venv with the locked versions

$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; install Python 3.11 or say PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "make: installing the locked versions (about 2.5 GB) into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet "$$(grep '^uv==' requirements.lock)"
	@# uv is three times faster but reads no pip.conf; where only pip knows the way to the packages, pip does it.
	@# Without compiled bytecode every stage would compile torch and Transformers anew where Python may not write it.
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --requirement requirements.lock \
		|| $(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

run: install ## the whole way on the embedded world: data to promoted model, in minutes, offline
	$(BIN)/gorn run

test: install ## every test (offline, CPU)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: install ## ruff, mypy, import-linter, codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: install ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proof: install ## the claims of the docs, measured (hours; resumes); CLAIM=name runs one
	$(BIN)/python -m tests.proof $(CLAIM)

baselines: install ## what HIGGS is compared with: bitsandbytes, hqq, torchao (optional)
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-baselines.lock

lock: ## write requirements.lock from what .venv holds
	{ head -2 requirements.lock; $(BIN)/python -m pip freeze --all --exclude gorn | grep -vixFf requirements-baselines.lock | grep -viE '^(pip==|-e)|@' | sed 's/+cpu//' | sort -f; } > requirements.tmp
	mv requirements.tmp requirements.lock

clean: ## remove outs and caches of this clone (the DVC cache and MLflow's store stay)
	rm -rf out .gorn/resume .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
