# Bare `make` lists what there is. Needs Python 3.11 or newer; everything else goes into .venv.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

ROOMS := pipelines transforms adapters repository agent cli
BIN := .venv/bin

.PHONY: help install run parts test check bench docs lock clean

help: ## Lists the targets
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed ## Makes .venv with the locked packages and the command .venv/bin/processflow
	@$(BIN)/python -m compileall -q $(ROOMS)

.venv/installed: requirements.lock setup.py .ci/install
	@.ci/install

run: install ## Runs the examples: files and databases with a replay and a diff; then two systems kept in step by their APIs
	@$(MAKE) -C examples/web-orders run
	@$(MAKE) -C examples/orders-to-erp run

parts: install ## Installs the servers that tests start, or says which to install
	@.ci/parts

test: parts ## Runs all tests; ARGS="tests/house -k name" narrows
	@$(BIN)/python -m pytest $(ARGS)

check: install ## Formatting, lint, types, and the walls between the rooms
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: install ## Measures our figures beside their limits; see benchmarks/README.md
	@$(BIN)/python -m benchmarks $(ARGS)

docs: install ## Writes the generated pages under docs/
	@$(BIN)/python -m cli.pages

lock: install ## Resolves requirements.lock anew; ARGS=--upgrade takes newer versions
	@$(BIN)/uv pip compile setup.py --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" --quiet $(ARGS) -o requirements.lock

clean: ## Removes .venv, caches and the example's data
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@rm -rf examples/*/.processflow examples/*/.data
	@find . -name __pycache__ -prune -exec rm -rf {} +
