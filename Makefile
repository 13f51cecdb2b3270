# `make` alone lists the verbs. Options of a script go into ARGS: `make bench ARGS="--quick"`.
# Needs Python 3.11 or later with pip; everything else goes into .venv.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUNTIME := $(VENV)/.installed-apps
PEERS := $(VENV)/.installed-peers
CLIENTS := $(VENV)/.installed-clients
CODE := $(wildcard src tests examples benchmarks .ci/*.py)

# The interpreter that makes the virtual environment; name another one with `make PYTHON=python3.13 ...`.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)

# Processes that share the tests of `make test`: two more than cores, since more than half of their time is waiting. Each has servers of its
# own and begins with its part of the files in order; one that is done takes half of what another has left, so that they end together.
# 0 runs them in one process, as a debugger needs, and a given server, whose fail points all share.
WORKERS ?= $(if $(MONGODB_TEST_URI),0,$(shell echo $$(($$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 2))))

comma := ,
QUICK := not slow and not browser and not clients

# uv takes a fifth of the time; pip does it where uv cannot be had, or does not know the index that pip is set to.
# Compiled here: the tests start processes by the hundred, and some environments let none of them write bytecode.
define install
@echo "Installing into $(VENV), this takes a minute or so"
@{ $(BIN)/python -m pip install -q --disable-pip-version-check uv 2>/dev/null \
	&& $(BIN)/python -m uv pip install -q --compile-bytecode --python $(BIN)/python -e "$(1)"; } \
	|| $(BIN)/python -m pip install -q --disable-pip-version-check -e "$(1)"
endef

.DEFAULT_GOAL := help
.PHONY: help install demo viewer playground test test-thorough test-browser test-clients test-all test-versions lint lint-files types format docs screenshots vendored bench bench-growth \
	bench-hooks bench-viewer bench-peers bench-import bench-storage dist clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## set up .venv with the package and everything that developing it needs

demo: $(RUNTIME) ## a conversation stored in a real MongoDB, killed, and resumed by another process
	$(BIN)/python examples/demo.py

viewer: $(RUNTIME) ## the Session Viewer, with sample conversations unless MONGODB_CONNECTION_STRING is set
	$(BIN)/python -m mongodb_session_manager.viewer

playground: $(RUNTIME) ## the chat playground, with an offline model unless PLAYGROUND_MODEL is set
	$(BIN)/python -m mongodb_session_manager.playground

# Whatever the environment says: pytest compiles all tests itself, once for each of its processes unless one of them may
# write the result, and so does every program that a test starts with the package.
test test-thorough test-browser test-clients test-all: export PYTHONDONTWRITEBYTECODE :=

test: $(STAMP) ## the behaviours, dear tests aside; a skipped test is a failure
	$(BIN)/python -m pytest --no-skips -n $(WORKERS) --dist worksteal -m "not thorough and $(QUICK)"

test-thorough: $(STAMP) ## what `make test` leaves out: more drivers and cases, kills and cancellations anywhere, races
	$(BIN)/python -m pytest --no-skips -n $(WORKERS) --dist worksteal -m "thorough and $(QUICK)"

test-browser: $(STAMP) ## the tests of the pages, in Chromium
	$(BIN)/python -m pytest --no-skips -m "browser and not slow"

test-clients: $(STAMP) $(CLIENTS) ## the tests with AG-UI's adapter, A2A's server, the harness, Gunicorn, gevent and notebooks
	$(BIN)/python -m pytest --no-skips -m clients

test-all: $(STAMP) $(CLIENTS) ## all tests; a skipped test is a failure
	$(BIN)/python -m pytest --no-skips

test-versions: $(STAMP) ## the tests on the lowest and on the newest Strands, PyMongo and Motor that are supported
	$(BIN)/python .ci/versions.py $(ARGS)

lint: $(STAMP) ## check style, formatting, workflow files, issue forms and compose.yaml
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory lint-files

lint-files: $(STAMP)
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema custom.github-workflows-require-timeout .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml

types: $(STAMP) ## check types
	$(BIN)/mypy $(CODE)

format: $(STAMP) ## repair style and formatting where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The variable spares the build a banner about another major version; nothing is built with that one.
docs: $(STAMP) ## the documentation site, into build/site; a warning is a failure
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir build/site
	@echo "Read it at http://127.0.0.1:8000/ with: $(BIN)/python -m http.server -b 127.0.0.1 -d build/site"

screenshots: $(STAMP) ## the pictures of the README, taken of the real apps
	$(BIN)/python .ci/screenshots.py

vendored: ## whether the browser code of others is the newest (needs npm)
	src/mongodb_session_manager/web/static/vendor/update.sh --check

bench: $(STAMP) ## what a turn costs beside a raw driver
	$(BIN)/python benchmarks/turn.py $(ARGS)

bench-growth: $(STAMP) ## what adding to and resuming a session costs, from 10 messages to 1,000,000
	$(BIN)/python benchmarks/growth.py $(ARGS)

bench-hooks: $(STAMP) ## what a hook adds to an update while its endpoint hangs
	$(BIN)/python benchmarks/hooks.py $(ARGS)

bench-viewer: $(RUNTIME) ## the Session Viewer over 100,000 sessions
	$(BIN)/python benchmarks/viewer.py $(ARGS)

bench-import: $(STAMP) ## what importing the package takes, beside Strands and Motor
	$(BIN)/python benchmarks/imports.py $(ARGS)

bench-storage: $(STAMP) ## snapshots beside the message log, and values of a storage by size
	$(BIN)/python benchmarks/storage.py $(ARGS)

bench-peers: $(PEERS) ## the same agents on other session managers
	PYTHONPATH=benchmarks $(BIN)/python -m peers $(ARGS)

dist: $(STAMP) ## a wheel and an sdist in dist/, each tried out in a clean virtual environment
	$(BIN)/python .ci/dist.py

clean: ## remove .venv and everything that was built
	rm -rf $(VENV) .venv-* build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(CODE) -type d -name __pycache__ -prune -exec rm -rf {} +

# A first look does not wait for what developing it needs.
$(RUNTIME): pyproject.toml src/mongodb_session_manager/_version.py | $(BIN)/python
	$(call install,.[embedded$(comma)playground$(comma)viewer])
	@touch $@

$(STAMP): pyproject.toml src/mongodb_session_manager/_version.py | $(BIN)/python
	$(call install,.[all$(comma)dev])
	@touch $@ $(RUNTIME)

$(PEERS): $(STAMP)
	$(call install,.[all$(comma)dev$(comma)peers])
	@touch $@

$(CLIENTS): $(STAMP)
	$(call install,.[all$(comma)dev$(comma)clients])
	@touch $@

# Debian's Python comes without ensurepip unless python3-venv is installed; its pip can fill the environment instead.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or later found: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is not Python 3.11 or later: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV) >/dev/null 2>&1 && $(BIN)/python -m pip --version >/dev/null 2>&1 \
		|| { "$(PYTHON)" -m venv --clear --without-pip $(VENV) && "$(PYTHON)" -m pip --python $(BIN)/python install -q pip; }
