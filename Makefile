# One word for each thing that people do here; `make help` lists them. Continuous integration uses the same words.
# Paths are relative and names of targets have no spaces, so the checkout may lie anywhere.

PYTHON ?= python3
# Options of the command behind the word: make serve ARGS="--http-port 8081", make test ARGS="-k frames -x".
ARGS ?=
# make viewer VIEWER_ARGS=--with-ort keeps the run time of AI-assisted segmentation.
VIEWER_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CONSTRAINTS := docker/constraints.txt
LEAN := ohif_config/lean/index.html
NPM_STAMP := ohif_config/node_modules/.package-lock.json

MAKEFLAGS += --no-builtin-rules --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: force help serve test lint format bench statement viewer system-packages constraints clean

help: ## list these words
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-24s %s\n", $$1, $$2 }'

serve: $(VENV)/.installed ## set up what is missing and start the server; honours DICOMHUB_* and dicomhub.toml
	@$(MAKE) viewer || echo 'Starting without the viewer; DICOMweb and DIMSE do not need it. Later: make viewer' >&2
	@exec $(BIN)/dicomhub serve $(ARGS)

test: system-packages $(VENV)/.installed-test ## set up what the tests need; lint, type check, test
	@$(MAKE) viewer || echo 'The browser test will be skipped.' >&2
	@failed=; $(MAKE) lint || failed=lint; \
	$(BIN)/python -m pytest $(ARGS) && [ -z "$$failed" ]

lint: $(VENV)/.installed-test ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-test ## let ruff put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-test ## benchmarks beside a peer (Debian's orthanc and dcmtk); prints ratios
	$(BIN)/python -m conformance.benchmarks.run $(ARGS)

statement: $(VENV)/.installed ## generate the conformance statement from the code's own tables
	$(BIN)/python -m conformance.statement $(ARGS)

viewer: $(LEAN) ## bring the OHIF viewer from npm and make its lean copy

constraints: ## resolve all dependencies anew into docker/constraints.txt
	rm -rf build/resolve
	$(PYTHON) -m venv build/resolve
	build/resolve/bin/python -m pip --disable-pip-version-check --quiet install --upgrade setuptools
	build/resolve/bin/python -m pip --disable-pip-version-check --quiet install --no-build-isolation -e '.[test]'
	@{ sed -n '/^#/p' $(CONSTRAINTS); \
	  { build/resolve/bin/python -m pip freeze --exclude dicomhub; \
	    build/resolve/bin/python -m pip list --format freeze | grep '^setuptools=='; } | sort -fu; } > build/constraints.txt
	mv build/constraints.txt $(CONSTRAINTS)
	rm -rf build/resolve

clean: ## remove what can be made again; never the data folder
	rm -rf $(VENV) build dist dicomhub.egg-info test-artifacts ohif_config/node_modules ohif_config/lean ohif_config/lean.part
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find dicomhub plugins tests conformance ohif_config -name __pycache__ -prune -exec rm -rf {} +

# --- what the words stand on -----------------------------------------------------------------------------------------

# Installs Debian packages ($(1)) where nobody has to be asked for a password.
define apt_install
{ command -v apt-get >/dev/null && { [ "$$(id -u)" = 0 ] && as_root= || { sudo -n true 2>/dev/null && as_root='sudo -n'; }; } && \
  $$as_root apt-get update -qq && \
  $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(1) >/dev/null; }
endef

# Debian keeps ensurepip in a package of its own; a pip of the system does as well.
$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'dicomhub needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...' >&2; exit 1; }
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null || $(call apt_install,python3-venv); then $(PYTHON) -m venv $(VENV); \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --quiet --python $(BIN)/python install pip; \
	else echo 'Cannot create $(VENV): please type  sudo apt-get install python3-venv  and try again.' >&2; exit 1; fi

# The build back end is pinned like everything else, hence no build isolation.
$(VENV)/.installed: $(VENV)/pyvenv.cfg pyproject.toml $(CONSTRAINTS)
	@echo 'Installing pinned packages into $(VENV) ...'
	@$(PIP) install -c $(CONSTRAINTS) setuptools
	@$(PIP) install -c $(CONSTRAINTS) --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo 'Installing what the tests need into $(VENV) ...'
	@$(PIP) install -c $(CONSTRAINTS) --no-build-isolation -e '.[test]'
	@touch $@

$(NPM_STAMP): ohif_config/package.json ohif_config/package-lock.json
	@command -v npm >/dev/null || { echo 'npm is missing: install Node.js 20 or newer, then type  make viewer' >&2; exit 1; }
	@echo 'Bringing the viewer from npm (50 MB) ...'
	@cd ohif_config && npm ci --loglevel=error || { \
	  echo 'npm could not bring the viewer (see above); with a network or a mirror, type  make viewer' >&2; exit 1; }
	@touch $@

# Made again whenever options are given: they are not a file that could be newer.
$(LEAN): $(if $(VIEWER_ARGS),force) $(NPM_STAMP) ohif_config/lean.py ohif_config/app-config.js ohif_config/branding/dicomhub.svg
	@$(PYTHON) ohif_config/lean.py $(VIEWER_ARGS)

# Tests that miss a program are skipped and say so; here those programs are installed where that needs no password.
system-packages:
	@missing=; \
	command -v storescu >/dev/null || missing="$$missing dcmtk"; \
	command -v curl >/dev/null || missing="$$missing curl"; \
	command -v zstd >/dev/null || missing="$$missing zstd"; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$$missing postgresql"; \
	[ -z "$$missing" ] || { echo "Installing Debian packages:$$missing ..."; $(call apt_install,$$missing); } || \
	  echo "Tests that need them will be skipped. To run them:  sudo apt-get install$$missing" >&2
