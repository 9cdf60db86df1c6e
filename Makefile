# Two commands do everything on a fresh machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test chaos bench simulate servers readme lint format types lock clean

$(VENV)/.installed: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

# For every Python from 3.11 on and every platform, with hashes.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml
lock:
	$(BIN)/$(COMPILE) --output-file requirements.lock
	$(BIN)/$(COMPILE) --extra dev --constraint requirements.lock --output-file requirements-dev.lock

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.installed
	$(BIN)/mypy

demo: $(VENV)/.installed
	$(BIN)/python deploy/demo/run.py

bench: $(VENV)/.installed
	$(BIN)/python -m tests.bench

chaos: $(VENV)/.installed
	MILLRACE_CHAOS=full $(BIN)/pytest tests/chaos

simulate: $(VENV)/.installed
	MILLRACE_SIMULATE=$(or $(SEEDS),0:5000) $(BIN)/pytest tests/simulation

readme: $(VENV)/.installed
	$(BIN)/python -m tests.readme

test: $(VENV)/.installed
	$(BIN)/pytest

# Real servers to try things with, until Ctrl-C; NAMES="kafka redis" starts only these.
servers: $(VENV)/.installed
	$(BIN)/python -m tests.servers $(NAMES)

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache
