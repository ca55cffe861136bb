.DEFAULT_GOAL := help
# The distribution's own first, if it can make environments: under load, one compiled in place costs more (docs/bench.md).
PYTHON ?= $(shell /usr/bin/python3.11 -c 'import ensurepip' 2>/dev/null && echo /usr/bin/python3.11 || \
  command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help install demo test check lint type cover bench crosstalk soak soak-streams figures-streams fuzz conformance docs lock protos programs

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv with every locked dependency and the authz command

$(STAMP): pyproject.toml deploy/requirements-dev.txt deploy/requirements-xds.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "authz needs Python 3.11 or newer: make PYTHON=/path/to/python")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r deploy/requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --target .venv/xds -r deploy/requirements-xds.txt
	@touch $@

programs: ## install what some tests drive from Debian's packages: Chromium, nghttp2's clients, wrk
	(for program in chromium nghttp h2load wrk; do command -v $$program >/dev/null || exit 1; done) || { apt-get update -qq && \
	  apt-get install -y -qq --no-install-recommends chromium nghttp2-client wrk; }

demo: install ## run everything on this machine: Envoy, authz, Redis, Postgres, a backend
	$(BIN)/authz demo

test: install ## run every test, with real servers
	$(BIN)/python -m pytest

check: lint type test ## what CI runs

lint: install ## style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: install ## static types
	$(BIN)/mypy

cover: install ## tests with branch coverage: at least 95 %, and 100 % of authz/core
	$(BIN)/python -m pytest -m "not timed" --cov --cov-report=term --timeout=60
	$(BIN)/python -m coverage report --include='authz/core/*' --fail-under=100

bench: .venv/.bench ## what a check costs, as ratios inside one run: build/bench/report.md (QUICK=1, ONLY=cpu,memory, AWAKE=all)
	PYTHONPATH=tests $(BIN)/python -m bench.run $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) $(if $(AWAKE),--awake $(AWAKE))

.venv/.bench: $(STAMP) deploy/requirements-bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r deploy/requirements-bench.txt
	@touch $@

crosstalk: install ## does every answer reach its own call? A million checks on a slow Redis (CHECKS=1000000)
	PYTHONPATH=tests $(BIN)/python -m bench.crosstalk --checks $(or $(CHECKS),1000000)

soak: install ## does a sidecar grow? Five million checks (CHECKS=5000000)
	PYTHONPATH=tests $(BIN)/python -m bench.soak --checks $(or $(CHECKS),5000000)

soak-streams: install ## streams that end and crash at random: do caps hold, does a slot leak? (MINUTES=30 OPENS=2000)
	PYTHONPATH=tests $(BIN)/python -m longrun.stream_soak --minutes $(or $(MINUTES),30) --opens $(or $(OPENS),2000)

figures-streams: install ## how soon does a stream's end free its slot, by cause, and what does a stopped Envoy tell? (SAMPLES=30)
	PYTHONPATH=tests $(BIN)/python -m longrun.stream_figures --samples $(or $(SAMPLES),30)

fuzz: install ## attack the HTTP/2 core with damaged sessions (SECONDS=600)
	PYTHONPATH=tests $(BIN)/python -m longrun.fuzz --seconds $(or $(SECONDS),600)

conformance: install ## hold the HTTP/2 core against python-hyper's h2, in conversations at random (EXAMPLES=20000)
	AUTHZ_H2_EXAMPLES=$(or $(EXAMPLES),20000) $(BIN)/python -m pytest --timeout=3600 tests/edge/h2/test_exchange.py

docs: install ## write docs/reference/ from the code
	$(BIN)/python docs/generate.py

lock: install ## pin every dependency with hashes, from pyproject.toml
	$(PYTHON) -m pip install --quiet --target build/uv uv
	for set in "requirements.txt" "requirements-dev.txt --extra demo --extra dev" \
	    "requirements-bench.txt --extra demo --extra dev --extra bench -c deploy/requirements-dev.txt"; do \
	  PYTHONPATH=build/uv $(PYTHON) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-emit-index-url --no-emit-find-links pyproject.toml -o deploy/$$set; done

protos: install ## compile protos/ into authz/_pb/
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=. --pyi_out=. protos/authz/_pb/*.proto
