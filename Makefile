PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test lint tests

demo: $(VENV)/.demo  ## the app, on bundled weights
	$(RUN) app.py

test: $(VENV)/.test  ## lint, types and all tests; a browser's where Chromium is present
	$(MAKE) -j2 lint tests

tests: $(VENV)/.test
	# A file, and what its tests share, is one process's; the order of files is conftest.py's.
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy foresight training benchmarks app.py space.py

$(VENV)/.demo: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit("Foresight needs Python 3.10 to 3.12." if not (3, 10) <= sys.version_info[:2] <= (3, 12) else 0)'
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q -r requirements.txt
	touch $@

$(VENV)/.test: requirements-test.txt $(VENV)/.demo
	$(RUN) -m pip install -q -r requirements-test.txt
	touch $@
