# make demo | test | test-fast | lint | docs | wheel | clean. Everything lives in .venv; nothing outside is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Where this is set, Ray's workers compile all their imports anew at every start: seconds each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fast lint docs wheel clean
.DELETE_ON_ERROR:

demo: $(VENV)/.cpu
	$(BIN)/python jobs/split.py --config configs/demo.yaml

# Without Ray a file a process, on every core; on Ray one test after the other, since each fills the machine.
test: $(VENV)/.cpu,dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not gpu and not survey and not ray"
	$(BIN)/python -m pytest --durations=25 -m "ray and not gpu and not survey"

# What needs no Ray and no patience: under three minutes on two cores.
test-fast: $(VENV)/.cpu,dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not gpu and not survey and not ray and not slow and not s3"

lint: $(VENV)/.cpu,dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The wheel in a clean environment without the engines: planning must work there.
wheel: $(VENV)/.cpu,dev
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python -m pip wheel -q --no-deps -w build/wheel .
	$(PYTHON) -m venv build/wheel/env
	build/wheel/env/bin/python -m pip install -q -c constraints.txt build/wheel/*.whl
	cd build/wheel && env/bin/splitray plan ../../examples/runs.csv --params 1.3B --budget 240B --domains 16

docs: $(VENV)/.docs
	$(BIN)/python scripts/prose.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
	@echo "Kept: runs/ (results, and the store that later runs reuse). Delete it by hand when you no longer need it."

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "splitray needs Python 3.11 or later, $(PYTHON) is %d.%d: make PYTHON=/path/to/python3.11 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# A stamp for each set of extras: a second make installs nothing unless the metadata or the pins have changed.
$(VENV)/.cpu $(VENV)/.cpu,dev: $(VENV)/.%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing splitray and its engines into $(VENV): a few minutes the first time."
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[$*]'
	@touch $@ $(VENV)/.cpu

# The site needs no engine: it reads the sources.
$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	@touch $@
