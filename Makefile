PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
export MPLBACKEND := Agg

.PHONY: demo test check bench upgrade clean help

help:
	@echo "make demo      set up and write one report of all experiments (the main job)"
	@echo "make test      set up and run everything that CI runs"
	@echo "make check     lint, types and architecture rules only"
	@echo "make bench     measure against the peers, in an environment of its own"
	@echo "make upgrade   renew constraints.txt (TORCH='torch<2.14' keeps a range)"
	@echo "make clean     remove environments, runs and caches"

.venv/demo: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Vivace needs Python 3.11 or newer") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	@touch $@

.venv/test: .venv/demo
	$(PIP) --editable ".[test]"
	@touch $@

demo: .venv/demo
	$(BIN)/vivace tour --quick --out tour

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

check: .venv/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet tests/test_architecture.py

.venv-bench/ready: pyproject.toml benchmarks/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --constraint constraints.txt --editable .
	.venv-bench/bin/python -m pip install --quiet --no-deps --requirement benchmarks/requirements.txt
	@touch $@

bench: .venv-bench/ready
	cd benchmarks && OMP_NUM_THREADS=1 ../.venv-bench/bin/python run.py

TORCH ?= torch
upgrade:
	rm -rf .venv-upgrade && $(PYTHON) -m venv .venv-upgrade
	.venv-upgrade/bin/python -m pip install --quiet "$(TORCH)" ".[test]"
	.venv-upgrade/bin/python -m pip freeze --exclude vivace | sed 's/+[a-z0-9]*$$//' > constraints.txt
	rm -rf .venv-upgrade

clean:
	rm -rf .venv .venv-bench .venv-upgrade build dist runs tour .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} + ; rm -rf src/*.egg-info
