# `make demo` and `make test` do all the set-up on a machine with Python 3.10 to 3.13; run again, they skip it.
# They install requirements.lock, exactly: the set that the tests passed on.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet
# Two processes, one thread each (tests/conftest.py); a file's tests stay together, as they share fixtures.
WORKERS ?= 2
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist loadfile $(PYTEST_FLAGS)

.PHONY: demo test test-fast test-newest test-lowest lint lock clean

demo: $(VENV)/.installed
	$(BIN)/redundancy-eval demo

test: lint
	$(PYTEST)

test-fast: $(VENV)/.installed
	$(PYTEST) -m "not framework and not slow"

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python docs/generate.py --check

# The newest releases that the extras admit, not the locked ones: what the next user without the lock gets.
test-newest:
	rm -rf $(VENV)-newest
	$(PYTHON) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-newest/bin/python -m pip install --quiet --editable ".[all]" --group test
	$(VENV)-newest/bin/redundancy-eval demo --limit 40 -o $(VENV)-newest/demo
	$(VENV)-newest/bin/pytest -n $(WORKERS) --dist loadfile -m framework

# The lowest releases that the base install admits, on the Python that PYTHON names (3.10 is the lowest).
test-lowest: $(VENV)/.uv
	rm -rf $(VENV)-lowest
	$(PYTHON) -m venv $(VENV)-lowest
	$(BIN)/uv pip install --quiet --python $(VENV)-lowest/bin/python --resolution lowest-direct --editable . --group test
	$(VENV)-lowest/bin/pytest -m "not models and not framework and not slow"

# Versions that stand in the lock stay where they still fit; `make lock UPGRADE=--upgrade` takes the newest.
lock: $(VENV)/.uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 pyproject.toml --extra all --group test --group lint \
	    --group build --generate-hashes --no-annotate --custom-compile-command "make lock" $(UPGRADE) -o requirements.lock
	$(BIN)/python docs/generate.py

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14) and "Python 3.10 to 3.13 is needed; say which with PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	touch $@

# Setuptools first: with it in place, what comes as sources only builds without fetching anything.
$(VENV)/.installed: $(VENV)/.created requirements.lock pyproject.toml
	sed -n '/^setuptools==/,/[^\\]$$/p' requirements.lock > $(VENV)/build.lock
	$(PIP) --no-deps --requirement $(VENV)/build.lock
	$(PIP) --no-deps --no-build-isolation --requirement requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.uv: $(VENV)/.installed
	$(PIP) uv
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-newest $(VENV)-lowest build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
