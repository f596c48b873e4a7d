# Two commands matter: `make demo` and `make test`. Each sets up what it needs and skips what is done.
PYTHON ?= python3
BIN    := .venv/bin
READY  := .venv/.installed
DEMO   := build/demo
EXECUTE = $(BIN)/jupyter nbconvert --execute --ExecutePreprocessor.record_timing=False \
          --KernelManager.transport_encryption=auto --log-level ERROR

.DELETE_ON_ERROR:
.PHONY: demo test oracle soak lab sample notebooks bench lock format clean

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.x")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing what requirements.lock pins into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# What a user would type, in order: start the lab, capture, ask; then every notebook on what was captured.
demo: $(READY)
	@rm -rf $(DEMO) && mkdir -p $(DEMO)
	@set -e; echo '$$ forensics lab'; \
	  $(BIN)/forensics lab > $(DEMO)/dsn & lab=$$!; trap 'kill $$lab 2>/dev/null; wait $$lab 2>/dev/null || true' EXIT; \
	  until [ -s $(DEMO)/dsn ]; do kill -0 $$lab 2>/dev/null || { echo 'the lab did not start' >&2; exit 1; }; sleep 0.2; done; \
	  echo; echo '$$ forensics capture DSN --store $(DEMO)/evidence.duckdb'; \
	  $(BIN)/forensics capture "$$(cat $(DEMO)/dsn)" --store $(DEMO)/evidence.duckdb
	@echo; echo '$$ forensics replay --store $(DEMO)/evidence.duckdb'
	@$(BIN)/forensics replay --store $(DEMO)/evidence.duckdb
	@set -e; check=$$($(BIN)/forensics checks --conflicts --json --store $(DEMO)/evidence.duckdb | \
	    $(BIN)/python -c 'import json, sys; print(json.load(sys.stdin)["checks"][0]["check_id"])'); \
	  echo; echo "$$ forensics explain $$check --store $(DEMO)/evidence.duckdb"; \
	  $(BIN)/forensics explain $$check --store $(DEMO)/evidence.duckdb
	@echo; echo 'Executing the notebooks on this store into $(DEMO)'
	@FORENSICS_STORE=$(CURDIR)/$(DEMO)/evidence.duckdb $(EXECUTE) --to html --output-dir $(DEMO) notebooks/*.ipynb
	@echo 'Open next: $(DEMO)/01_explain_a_conflict.html in a browser, or all notebooks live on this store with: make lab'


lab: $(READY)
	@test -f $(DEMO)/evidence.duckdb || $(MAKE) demo
	FORENSICS_STORE=$(CURDIR)/$(DEMO)/evidence.duckdb FORENSICS_CHARTS=interactive $(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses 2 --dist loadfile

# The long campaign of test_oracle: 100,000 decisions put to PostgreSQL and to the replay.
oracle: $(READY)
	FORENSICS_ORACLE_CASES=12500 $(BIN)/pytest tests/test_oracle.py

# The long campaigns: a hundred captures killed while a writer works on, two hundred histories cut at random.
soak: $(READY)
	FORENSICS_KILLS=100 $(BIN)/pytest tests/test_custody.py -k killed
	FORENSICS_CUTS=200 $(BIN)/pytest tests/test_measure.py -k cut

# A new sample from a new lab, and the notebooks' outputs on it. Both are committed.
sample: $(READY)
	rm -rf build/sample.duckdb build/sample.dsn data/sample && mkdir -p build
	set -e; $(BIN)/forensics lab > build/sample.dsn & lab=$$!; trap 'kill $$lab; wait $$lab || true' EXIT; \
	  until [ -s build/sample.dsn ]; do kill -0 $$lab; sleep 0.2; done; \
	  $(BIN)/forensics capture "$$(cat build/sample.dsn)" --store build/sample.duckdb
	$(BIN)/python -c 'from pathlib import Path; from analysis import stores; \
	  stores.export(stores.connect(Path("build/sample.duckdb")), Path("data/sample"))'
	$(BIN)/python tests/test_docs.py
	$(MAKE) notebooks

notebooks: $(READY)
	env -u FORENSICS_STORE -u FORENSICS_CHARTS $(EXECUTE) --to notebook --inplace notebooks/*.ipynb

# How fast, beside what else could be used: each script in tests/bench prints its own table.
bench: build/bench/venv/.installed
	@set -e; for script in tests/bench/bench_*.py; do echo; echo "$$script"; $(dir $<)bin/python $$script; done

build/bench/venv/.installed: requirements.lock tests/bench/requirements.txt pyproject.toml
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@echo "Installing what requirements.lock and tests/bench/requirements.txt pin into $(@D)"
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	@# Without dependencies: one library declares ceilings for polars and pyarrow that it does not need.
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps -r tests/bench/requirements.txt
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --all-extras \
	  --quiet --output-file requirements.lock pyproject.toml

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build
