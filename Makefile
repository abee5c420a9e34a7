# `make` alone lists what there is. The work is done by the programs in scripts/.

SHELL := /bin/sh
PYTHON := .venv/bin/python
PYTHON_SCRIPTS := scripts/images scripts/opa scripts/stack scripts/verify-history
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
.PHONY: help demo demo-down test check bench images clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: ## set everything up and run the whole system on manifest.yaml
	@scripts/demo

demo-down: ## stop the demo's daemon and remove what it deployed
	@scripts/venv
	@$(PYTHON) scripts/stack down

test: ## set everything up and run all tests
	@scripts/test

check: ## format, lint, types, import contracts, fast tests, policy tests, the wheel
	@scripts/venv --dev
	$(PYTHON) -m ruff format --check . $(PYTHON_SCRIPTS)
	$(PYTHON) -m ruff check . $(PYTHON_SCRIPTS)
	$(PYTHON) -m mypy
	.venv/bin/lint-imports
	$(PYTHON) -m pytest tests -n 2 -m "not engine"
	@$(PYTHON) scripts/opa test opa || { status=$$?; [ $$status -eq 127 ] && echo "LEFT OUT: opa test, no OPA to be had (see above)"; }
	scripts/wheel

bench: ## the benchmarks, beside their peers
	@scripts/engine
	@scripts/venv --dev
	@$(PYTHON) scripts/images
	$(PYTHON) -m bench

images: ## get or build the images of the demo (FRESH=1: anew, from today's packages)
	@scripts/engine
	@scripts/venv
	@$(PYTHON) scripts/images $(if $(FRESH),--fresh)

clean: ## remove what building and testing left in this folder (not state/, not .venv)
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
