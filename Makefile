# `make demo` and `make test` work as the first command on a fresh clone: they make .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check soak mutants bench bench-quick clean

demo: $(STAMP)
	$(BIN)/crdtledger demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Changes the pure core in 500 small ways, and ends with 1 when tests mind fewer than 85% of them: docs/how-to/mutation-testing.md.
mutants: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,mutants]"
	$(BIN)/python -m tests.mutants --least 85

# Ten simulated minutes of random faults for each of 500 seeds: about 45 minutes of one core. CI runs twenty short ones
# (tests/edge/test_simulate.py).
SOAK_SEEDS ?= 500
SOAK_FROM ?= 1
soak: $(STAMP)
	$(BIN)/crdtledger simulate --swarm --seed $(SOAK_FROM) --seeds $(SOAK_SEEDS)

# What users feel, beside what they would use instead: bench/README.md. The quick one sees in under three minutes that all of it is right.
CAPTURES ?= $(wildcard ../shared/data)
BENCHES ?=
bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,bench]"
	$(BIN)/python -m bench $(BENCHES) --keep $(if $(CAPTURES),--captures $(CAPTURES))

bench-quick: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,bench]"
	$(BIN)/python -m bench $(BENCHES) --quick $(if $(CAPTURES),--captures $(CAPTURES))

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis mutants
