# Two commands do everything: `make demo` and `make test`. Both build their own environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-from-lock

CAPYMOA := .venv-capymoa
CAPYMOA_STAMP := $(CAPYMOA)/.installed

.PHONY: setup demo test lint bench bench-full capymoa clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(STAMP)

demo: setup
	$(BIN)/everlearn demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/everlearn warmup
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

# CapyMOA's learners as peers: an environment of their own; they need Java (17 was measured)
capymoa: $(CAPYMOA_STAMP)

$(CAPYMOA_STAMP): benchmarks/capymoa-requirements.txt
	$(PYTHON) -m venv $(CAPYMOA)
	$(CAPYMOA)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/capymoa-requirements.txt
	touch $(CAPYMOA_STAMP)

# The tables in docs/benchmarks; STREAM=elec2 make bench measures that stream alone
bench: setup $(if $(shell command -v java),capymoa)
	$(BIN)/python -m benchmarks first regression ablations --write $(if $(STREAM),--stream $(STREAM))

bench-full: setup $(if $(shell command -v java),capymoa)
	$(BIN)/python -m benchmarks full --write $(if $(STREAM),--stream $(STREAM))

clean:
	rm -rf $(VENV) $(CAPYMOA) dist build everlearn-demo
