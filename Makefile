# Two commands on a fresh machine (Python 3.11+): `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

.DEFAULT_GOAL := help
.PHONY: help install demo study consortium test test-slow lint bench lock pin-base images release-check release clean

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

test-search: $(VENV)/.installed-test ## The property tests with examples drawn anew
	@"$(BIN)/pytest" -m "hypothesis and not slow" --hypothesis-profile search

lint: $(VENV)/.installed-test ## ruff and mypy
	@"$(BIN)/ruff" check .
	@"$(BIN)/ruff" format --check .
	@"$(BIN)/mypy"

bench: $(VENV)/.installed-test ## Speed as ratios against the peer
	@for file in $$(ls benchmarks/*.py | grep -v -e timing.py -e federation_rounds.py); do echo "== $$file"; "$(BIN)/python" "$$file" || exit 1; done

lock: $(VENV)/.installed-test ## Renew the hashed locks (network); TORCH_CPU=PLACE for torch's CPU build, a folder or an index
	@PATH="$(BIN):$$PATH" "$(BIN)/python" locks/renew.py $(if $(TORCH_CPU),--torch-cpu "$(TORCH_CPU)")

pin-base: ## Pin the images' base by the digest that its tag has now (network, docker)
	@tag=$$(sed 's/@.*//' docker/base-image) && \
		digest=$$(docker buildx imagetools inspect "$$tag" --format '{{.Manifest.Digest}}') && \
		echo "$$tag@$$digest" > docker/base-image && cat docker/base-image

images: ## The three images, on the base that docker/base-image names
	@for target in server client client-gpu; do \
		docker build -f docker/Dockerfile --build-arg PYTHON_IMAGE="$$(cat docker/base-image)" --target $$target \
			-t fedbreast-$$target:$(VERSION) . || exit 1; done

release-check: ## Whether this commit can be released: nothing uncommitted, the base pinned by its digest
	@test -z "$$(git status --porcelain)" || { echo "there are changes that are not committed"; exit 1; }
	@grep -Eqx '[^@]+@sha256:[0-9a-f]{64}' docker/base-image || \
		{ echo "docker/base-image has no digest: make pin-base, and commit it"; exit 1; }

release: release-check $(VENV)/.installed ## Bills of materials and checksums into dist/, and a signed tag
	@mkdir -p dist && git archive --format=tar.gz --prefix=fedbreast-$(VERSION)/ -o dist/fedbreast-$(VERSION).tar.gz HEAD
	@for torch in cpu cuda; do "$(BIN)/python" locks/sbom.py $$torch dist/sbom-$$torch.cdx.json || exit 1; done
	@cd dist && sha256sum fedbreast-$(VERSION).tar.gz sbom-*.cdx.json > SHA256SUMS
	@git tag --sign "v$(VERSION)" --message "FedBreast $(VERSION)" --message "$$(cat dist/SHA256SUMS)"

clean: ## Remove the environment and caches (data/ and runs/ stay)
	rm -rf "$(VENV)" .cache .mypy_cache .ruff_cache .pytest_cache build *.egg-info
