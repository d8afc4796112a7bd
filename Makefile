# make demo | test | lint | docs | clean. Everything lives in .venv; nothing outside this folder is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Where this is set, Ray's workers compile all their imports anew at every start: seconds each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint docs clean
.DELETE_ON_ERROR:

demo: $(VENV)/.cpu
	$(BIN)/python jobs/split.py --config configs/demo.yaml

test: $(VENV)/.cpu,dev
	$(BIN)/python -m pytest

lint: $(VENV)/.cpu,dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

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
	$(BIN)/python -m pip install -c constraints.txt -e '.[$*]'
	@touch $@ $(VENV)/.cpu

# The site needs no engine: it reads the sources.
$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt -e '.[docs]'
	@touch $@
