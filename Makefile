# make demo    the suite on generated data: installs, runs 30 trials, writes a report
# make test    the fast tests
# make faults  a run's processes are killed, and its sockets listed: 5 minutes
# make check   lint, types, import rules and fast tests
# make speed   how fast it is, beside named peers
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test faults check lint speed clean

demo: .venv/installed
	$(BIN)/python -m bench run --backbones llama3,mistral

test: .venv/installed-test
	$(BIN)/python -m pytest

faults: .venv/installed-test
	$(BIN)/python -m pytest -m slow tests/bench/test_sockets.py tests/bench/test_faults_ray.py -k "socket or killed"

check: lint
	$(BIN)/python -m pytest

speed: .venv/installed-test
	$(BIN)/python -m tests.speed

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/installed-test: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@ .venv/installed

clean:
	rm -rf .venv *.egg-info build dist
