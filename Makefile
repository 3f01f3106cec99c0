# Two commands matter: `make demo` and `make test`. Everything they need goes into .tools and .venv of this folder.
# Nothing is installed into the system but Debian test programs, and those only by `make test` as root.
SHELL := /bin/sh
PYTHON ?= python3
ARGS ?=

UV := .tools/bin/uv
BIN := .venv/bin
export UV_PYTHON_DOWNLOADS := never
export UV_PYTHON_PREFERENCE := only-system
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test faults check bench docs lock clean
.DEFAULT_GOAL := demo

demo: .venv/run.stamp
	@$(BIN)/yulink demo $(ARGS)

test: .venv/dev.stamp
	@deploy/test-programs.sh
	@$(BIN)/python -m pytest -n 4 --dist worksteal $(ARGS)

# Kills, outages, broken links and disks, each with an account of every value; about ten minutes. See docs/faults.md.
faults: .venv/dev.stamp
	@deploy/test-programs.sh
	@$(BIN)/python -m tests.faults.campaign $(ARGS)

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m edge.agent.generate --check
	$(BIN)/python -W ignore -m uplink.generate --check

bench: .venv/dev.stamp
	@for program in benchmarks/bench_*.py; do echo "== $$program"; $(BIN)/python $$program $(ARGS) || exit 1; done

docs: .venv/dev.stamp
	$(BIN)/python -m edge.agent.generate
	$(BIN)/python -W ignore -m uplink.generate
	$(BIN)/python -m tests.sparkplug.conformance

# Resolves the newest versions that pyproject.toml admits, for every supported Python at once.
lock: $(UV)
	$(UV) pip compile pyproject.toml --all-extras --group build --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements.lock
	$(UV) pip compile pyproject.toml --all-extras --group build --group dev --universal --python-version 3.11 \
		--constraints requirements.lock \
		--generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements-dev.lock

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' || \
		{ echo "Yulink needs Python 3.11 to 3.14; found $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m pip install --quiet --target .tools --upgrade uv

.venv/bin/python: $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv

# One environment, two fillings: what runs, and what also tests. Hashes are checked; the build back-end is pinned too.
# Compiled once here, so that no start compiles: `yulink check` takes half the time where Python may not write.
.venv/run.stamp: .venv/bin/python requirements.lock pyproject.toml
	@test -e .venv/dev.stamp || $(UV) pip sync --quiet --compile-bytecode --require-hashes requirements.lock
	@$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: .venv/bin/python requirements-dev.lock pyproject.toml
	@$(UV) pip sync --quiet --compile-bytecode --require-hashes requirements-dev.lock
	@$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m edge.analytics.compile_all
	@touch $@

clean:
	rm -rf .venv .tools .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
