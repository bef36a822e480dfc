# Two commands: `make demo` shows what headway does, `make test` checks all of it.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check docs parity bench clean

demo: .venv/headway
	$(BIN)/headway demo

# There are as many workers as cores, so each takes one thread. Files are read in the order of tests/conftest.py.
test: .venv/tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(COVERAGE)

check: .venv/tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The site, in site/. A warning is an error. The variable hides a notice that mkdocs-material prints at each build.
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Runs R (Debian: r-cran-lmertest r-cran-mgcv r-cran-jsonlite) beside headway on random data.
parity: .venv/tests
	$(BIN)/python tests/stats/parity.py

# One table of every benchmark, with the machine. It takes an hour or more.
bench: .venv/tests
	$(BIN)/python benchmarks/all.py

clean:
	rm -rf .venv headway-demo site .cache

.venv/pip:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "headway needs Python 3.11 to 3.13; choose one with: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "python's venv module is missing; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	touch $@

.venv/headway: .venv/pip pyproject.toml constraints.txt
	@echo "installing headway into .venv (a few minutes the first time)"
	$(PIP) --editable .
	touch $@

.venv/tests: .venv/headway
	$(PIP) --editable '.[ray]' --group test
	touch $@

.venv/docs: .venv/headway
	$(PIP) --group docs
	touch $@
