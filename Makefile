# Two commands do all the set-up: `make run` and `make test`. Needs Python 3.11+, make and git.
PYTHON ?= python3
# About half of the tests' time is waiting, so two for each of two cores.
WORKERS ?= 4
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Each worker and each process that the tests start would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-quick test-long check lint bench attack faults fuzz hostile

run: .venv/quickstart.stamp
	exec .venv/bin/python manage.py quickstart

test: check
	.venv/bin/pytest -n $(WORKERS) --dist loadgroup -m "not long"

# What needs no server: tests/plugin.py marks the others when it collects them.
test-quick: .venv/dev.stamp
	.venv/bin/pytest -q -n 2 -m "not server and not long"

test-long: .venv/dev.stamp
	.venv/bin/pytest -n $(WORKERS) --dist loadgroup

# What `make lint` does without starting pytest, which `make test` starts for all.
check: .venv/dev.stamp
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/mypy

lint: check
	.venv/bin/pytest -q tests/house

bench: .venv/dev.stamp
	.venv/bin/pytest -q -s --log-disable=root tests/suites/bench/bench_*.py

attack: .venv/dev.stamp
	.venv/bin/pytest -q tests/suites/attacks
	.venv/bin/python -m tests.suites.attacks

# FUZZ_EXAMPLES=200 FUZZ_SEED=7 in the environment change how many for each operation, and which.
fuzz: .venv/dev.stamp
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-20} .venv/bin/pytest -q tests/suites/fuzz

# HOSTILE_MESSAGES=200000 HOSTILE_SEED=7 in the environment change how many, and which.
hostile: .venv/dev.stamp
	.venv/bin/pytest -q -s --log-disable=root tests/suites/hostile

# FAULTS="--seed 7 --part Postgres": `.venv/bin/python -m tests.suites.faults --help` names them.
faults: .venv/dev.stamp
	.venv/bin/python -m tests.suites.faults $(FAULTS)

.venv/%.stamp: requirements/%.txt requirements/base.txt requirements/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Wegweiser needs Python 3.11 or later; name one: make PYTHON=python3.11")'
	test -x .venv/bin/pip || $(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet -r $< -c requirements/constraints.txt
	touch $@
