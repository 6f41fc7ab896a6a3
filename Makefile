# Needs nothing but Python 3.10 or later: the first `make demo` makes .venv and installs what the demo needs, the first
# `make test` adds what the tests need, both at the versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON310 ?= python3.10
WITHOUT_TORCH := numpy pillow regex scipy pandas pyarrow pyyaml click rich jaxtyping matplotlib filelock pytest hypothesis
TESTS := $(VENV)/.tests-ready
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile --constraint constraints.txt

export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
# Else each process that the tests start compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test fuzz test-releases test-python310 lock format readme docs clean

demo: $(READY)
	$(BIN)/sightline demo

test: $(TESTS)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Every method on every family (about 1,100 cells), beside all that `make test` runs.
test-all: export SIGHTLINE_TEST_ALL := 1
test-all: $(TESTS)
	$(BIN)/python -m pytest -n 2 --dist worksteal

format: $(TESTS)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Each named release in an environment of its own beside .venv; what passed goes into docs/releases.md.
test-releases: $(TESTS)
	$(BIN)/python tools/releases.py --write $(RELEASES)

# Bad inputs of every kind, a thousand of them; the tests try forty-nine.
fuzz: $(TESTS)
	FUZZ=$(or $(FUZZ),1000) $(BIN)/python -m pytest tests/cli/test_fuzz.py

# What an older Python can show without PyTorch: every file compiles, and samples, runs and scoring work.
test-python310:
	test -x .venv-3.10/bin/python || $(PYTHON310) -m venv .venv-3.10
	.venv-3.10/bin/python -m pip install --disable-pip-version-check --quiet --no-compile $(WITHOUT_TORCH)
	.venv-3.10/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --editable .
	.venv-3.10/bin/python -m compileall -q src tests tools docs recipes benchmarks
	.venv-3.10/bin/python -m pytest -p no:cacheprovider tests/test_sample.py tests/test_runs.py tests/benchmarks tests/zoo/test_world.py

lock: $(TESTS)
	$(BIN)/python tools/lock.py

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Sightline needs Python 3.10 or later, and $(PYTHON) is older: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Sightline and what it runs on (PyTorch, Transformers and others) into $(VENV), once."
	$(INSTALL) --editable .
	@touch $(READY)

$(TESTS): $(READY)
	@echo "Installing what the tests need into $(VENV), once."
	$(INSTALL) --editable '.[dev]'
	@touch $(TESTS)

readme: $(TESTS)
	$(BIN)/python docs/fill_readme.py

docs: $(TESTS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) .venv-* build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
