# make demo    the whole way on the embedded data, then the search page
# make test    the tests
# make check   lint, types, import contracts and tests
# make bench   the benchmarks
# Everything is installed into .venv; run again, they skip what is done.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEMO ?=
PYTEST ?=

.PHONY: demo test check lint types imports bench weights clean

demo: $(VENV)/.demo
	@$(BIN)/cl2cm demo $(DEMO)

test: $(VENV)/.dev
	@$(BIN)/python -m pytest $(PYTEST)

check: lint types imports test

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.dev
	@$(BIN)/mypy

imports: $(VENV)/.dev
	@$(BIN)/lint-imports

bench: $(VENV)/.dev weights
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

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

$(VENV)/.dev: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "installing cl2cm and the development tools into $(VENV)" >&2
	@$(PIP) -e '.[dev]' >&2
	@touch $@ $(VENV)/.demo
