# Two commands matter: `make demo` and `make test`. Each sets up what it needs and skips what is done.
PYTHON ?= python3
BIN    := .venv/bin
READY  := .venv/.installed

.DELETE_ON_ERROR:
.PHONY: demo test lab sample lock format clean

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.x")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --all-extras --quiet --output-file requirements.lock pyproject.toml
