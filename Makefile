# make demo    run the full pipeline on the bundled data, then serve the search page
# make test    run the tests
# make check   lint, types, import contracts, audit of the dependencies, and tests
# make docs    the documentation site in build/docs, offline; every warning is an error
# make bench   speed beside other libraries, written into docs/performance.md; quick: BENCH=--quick
# make audit   the dependencies against known vulnerabilities
# make sbom    a bill of materials (CycloneDX) in sbom.json
# make locked  install everything by hash; make lock   write the hashes anew (needs uv)
# Everything is installed into .venv; finished steps are skipped when a target is run again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEMO ?=
PYTEST ?=
BENCH ?=

.PHONY: demo test check lint types imports audit docs sbom lock locked bench weights clean

demo: $(VENV)/.demo
	@$(BIN)/cl2cm demo $(DEMO)

test: $(VENV)/.dev
	@$(BIN)/python -m pytest $(PYTEST)

check: lint types imports audit test

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.dev
	@$(BIN)/mypy

imports: $(VENV)/.dev
	@$(BIN)/lint-imports

audit: $(VENV)/.dev
	@$(BIN)/python supply_chain/audit.py

docs: $(VENV)/.dev
	@$(BIN)/python -m sphinx -W --keep-going -q -E -b html docs build/docs
	@echo "open build/docs/index.html"

sbom: $(VENV)/.dev
	@$(BIN)/python supply_chain/sbom.py >sbom.json.partial && mv sbom.json.partial sbom.json

lock:
	@supply_chain/lock

# Every file must have its hash in requirements.lock; torch is pinned by version, as below.
locked: $(VENV)/.torch
	@$(PIP) --no-deps --require-hashes -r requirements.lock >&2
	@$(PIP) --no-deps -e . >&2
	@touch $(VENV)/.demo $(VENV)/.dev

bench: $(VENV)/.bench weights
	@$(BIN)/python benchmarks/run.py $(BENCH)

weights: $(VENV)/.demo
	@$(BIN)/cl2cm doctor --install-weights >&2

clean:
	rm -rf $(VENV) cl2cm-demo

# torch first and alone, by its exact version: nothing else may choose another build.
$(VENV)/.torch: constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) >&2
	@echo "installing torch into $(VENV)" >&2
	@$(PIP) "$$(grep '^torch==' constraints.txt)" >&2
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "installing cl2cm into $(VENV)" >&2
	@$(PIP) -e '.[demo]' >&2
	@touch $@

$(VENV)/.bench: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "installing cl2cm and the libraries to compare it with into $(VENV)" >&2
	@$(PIP) -e '.[bench]' >&2
	@touch $@ $(VENV)/.demo

$(VENV)/.dev: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "installing cl2cm and the development tools into $(VENV)" >&2
	@$(PIP) -e '.[dev]' >&2
	@touch $@ $(VENV)/.demo
