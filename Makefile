# Two commands on a fresh machine (Python 3.11+): `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install demo study consortium test test-slow lint bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## FedBreast into .venv and nothing more: what a server or a hospital needs

# The stamp makes a second call free; it is renewed when the dependencies change.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "FedBreast needs Python 3.11 or newer: call make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "Installing FedBreast into $(VENV) (about a minute when packages are cached)"
	@$(PYTHON) -m venv "$(VENV)"
	@"$(BIN)/pip" install --quiet --progress-bar on --constraint constraints.txt --editable .
	@touch "$@"

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "Installing what the tests need"
	@"$(BIN)/pip" install --quiet --constraint constraints.txt --editable '.[test]'
	@touch "$@"

study: $(VENV)/.installed ## Every phantom centre left out once: federated, local, pooled, ensemble (about 20 minutes)
	@"$(BIN)/fedbreast" study configs/study.toml

demo: $(VENV)/.installed ## Three phantom hospitals train, a fourth is held out for evaluation; prints the report's path
	@"$(BIN)/fedbreast" demo

consortium: $(VENV)/.installed ## A secured server and four hospitals, each a process here; needs nginx
	@"$(BIN)/fedbreast" rehearse configs/quick.toml

test: $(VENV)/.installed-test ## Lint, types and the default test suite with coverage (no network)
	@$(MAKE) --no-print-directory lint
	@"$(BIN)/pytest" --numprocesses 2 --cov --cov-report=term:skip-covered --cov-fail-under=85

test-slow: $(VENV)/.installed-test ## The heavier tests: real `flwr run`, processes, a browser
	@"$(BIN)/pytest" -m slow

lint: $(VENV)/.installed-test ## ruff and mypy
	@"$(BIN)/ruff" check .
	@"$(BIN)/ruff" format --check .
	@"$(BIN)/mypy"

bench: $(VENV)/.installed-test ## Speed as ratios against the peer
	@for file in $$(ls benchmarks/*.py | grep -v -e timing.py -e federation_rounds.py); do echo "== $$file"; "$(BIN)/python" "$$file" || exit 1; done

clean: ## Remove the environment and caches (data/ and runs/ stay)
	rm -rf "$(VENV)" .cache .mypy_cache .ruff_cache .pytest_cache build *.egg-info
