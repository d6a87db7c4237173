# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/sh
.SHELLFLAGS := -ec
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
V   := .venv
PY  := $(V)/bin/python
ST  := $(V)/.stamps
UV  := UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=true $(V)/bin/uv pip install -q --python $(V)/bin/python
CRATES := mls-rs-python opaque-ke-python
WHEEL_LIMIT := 4000000
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export CARGO_TARGET_DIR := $(CURDIR)/target

# rustup's cargo looks for its toolchains under HOME; with another HOME they are beside it still.
ifeq ($(shell cargo --version 2>/dev/null),)
ifneq ($(shell command -v cargo 2>/dev/null),)
export RUSTUP_HOME := $(abspath $(dir $(shell command -v cargo))../../.rustup)
endif
endif

.PHONY: help setup demo test check bench soak fuzz docs lock clean
help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' Makefile | while IFS=: read -r name text; do printf '  make %-8s%s\n' "$$name" "$$text"; done

demo: setup ## the main job on real processes: a relay, three nodes, one of them killed
	@$(PY) -m demo

test: setup ## every test (PYTEST="tests/node -x" for some)
	@$(PY) -m pytest -q $(PYTEST)

bench: setup ## every benchmark, beside its reference; minutes (BENCH="transport --quick" for less)
	@$(PY) -m benchmarks $(BENCH)

SECONDS ?= 1800
soak: setup ## nodes and a relay under traffic, kill -9, a bad network (SECONDS=1800); SOAK=relay
	@$(PY) -m tests.soak$(SOAK:%=.%) --seconds $(SECONDS)

# A third of the time goes to the three Rust targets, two of them side by side, once compiled.
fuzz: setup ## coverage-guided fuzzers of all that reads strangers' bytes (SECONDS=1800)
	@$(PY) -m tests.fuzz --seconds $$(($(SECONDS) * 2 / 3))
	@$(MAKE) --no-print-directory -j2 -Otarget -C bindings/mls-rs-python/fuzz SECONDS=$$((($(SECONDS) + 3) / 4)) PYTHON=$(CURDIR)/$(PY)
	@$(MAKE) --no-print-directory -C bindings/opaque-ke-python/fuzz SECONDS=$$((($(SECONDS) + 11) / 12)) PYTHON=$(CURDIR)/$(PY)

docs: setup ## the computed parts of docs/ written anew, every link looked at
	@$(PY) -m tests.docs

check: setup ## format, lint, types, layers, no registry address, size of the wheels
	$(V)/bin/ruff format --check .
	$(V)/bin/ruff check .
	$(V)/bin/mypy
	$(V)/bin/lint-imports
	@$(PY) tests/hygiene.py
	@$(PY) tests/hygiene.py --wheel $(WHEEL_LIMIT)

setup: $(ST)/editable $(CRATES:%=$(ST)/crate-%) ## the virtual environment, the bindings, the project

# 1. The interpreter, checked in words that 3.6 to 3.10 can also parse.
$(ST)/venv:
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "error: no '$(PYTHON)' found; install Python 3.11 or newer, or: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or newer is needed; %s is %s. Try: make PYTHON=python3.12" % (sys.executable, sys.version.split()[0]))'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "error: this Python lacks venv/ensurepip (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@cargo --version >/dev/null 2>&1 || { echo "error: no working cargo found; the bindings are built from Rust (install a Rust toolchain, 1.87 or newer)" >&2; exit 1; }
	@command -v cc >/dev/null 2>&1 || { echo "error: cc not found; the bindings need a C compiler (Debian and Ubuntu: apt install gcc)" >&2; exit 1; }
	@echo "setup: virtual environment" >&2
	@$(PYTHON) -m venv $(V)
	@mkdir -p $(ST) && touch $@

# 2. The locked dependencies: only when the lock changes.
$(ST)/uv: bootstrap.lock $(ST)/venv
	@$(PY) -m pip install -q --require-hashes --only-binary :all: -r bootstrap.lock
	@touch $@
$(ST)/deps: requirements.lock $(ST)/uv
	@echo "setup: locked dependencies" >&2
	@$(UV) --require-hashes --no-build -r requirements.lock
	@touch $@

# 3. The distribution itself, editable: only when its metadata changes.
$(ST)/editable: pyproject.toml $(ST)/deps
	@$(UV) --no-deps --no-build-isolation -e .
	@touch $@

# 4. The crates: only when their sources change; cargo's target/ keeps it incremental.
define crate
$(ST)/crate-$(1): Cargo.toml Cargo.lock $$(shell find bindings/$(1) -type f -not -path '*/target/*' -not -name '*.so' -not -name '*.pyc' -not -path '*/tests/*' -not -path '*/fuzz/*') $(ST)/deps
	@echo "setup: compiling $(1) (a minute or two the first time)" >&2
	@PATH="$(CURDIR)/$(V)/bin:$$$$PATH" MATURIN_NO_INSTALL_RUST=1 $(UV) --no-deps --no-build-isolation --reinstall ./bindings/$(1)
	@touch $$@
endef
$(foreach c,$(CRATES),$(eval $(call crate,$(c))))

lock: $(ST)/uv ## maintainers only: renew the locks
	$(V)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate -o bootstrap.lock bootstrap.in
	$(V)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate $(CRATES:%=--no-emit-package %) --group dev --extra postgres -o requirements.lock pyproject.toml

clean: ## remove what setup made
	rm -rf $(V) target
