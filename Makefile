.DEFAULT_GOAL := help
# The distribution's own first, if it can make environments: under load, one compiled in place costs more (docs/bench.md).
PYTHON ?= $(shell /usr/bin/python3.11 -c 'import ensurepip' 2>/dev/null && echo /usr/bin/python3.11 || \
  command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3.14 || command -v python3)
BIN := .venv/bin
DEMO := .venv/.demo
STAMP := .venv/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
UV := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps
# Parallel workers take whole files, in the order of tests/conftest.py.
BY_FILE := --dist loadfile --no-loadscope-reorder
# Beside others a test may wait longer than its time limits allow. What failed there must pass alone.
ALONE = $(BIN)/python -m pytest -m "not timed" --last-failed --last-failed-no-failures none
# $(call packages,ARGUMENTS): install with uv, which takes a third of pip's time, and with pip where uv does not work.
packages = $(UV) $(1) || $(PIP) $(1)

.PHONY: help install demo test test-redis test-fast check lint type cover bench crosstalk soak soak-streams \
  figures-streams fuzz worst-case conformance docs dist tour-installed lock protos programs programs-newer mixing cold-cache \
  failovers slow-stores test-pooler hostile fuzz-portal browsers tls-cost two-releases fuzz-import import-real drill \
  dashboards bench-tracing

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv with every locked dependency and the authz command

# What runs the product and its demo, and nothing of the developers' tools.
$(DEMO): pyproject.toml deploy/requirements-uv.txt deploy/requirements-demo.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "authz needs Python 3.11 or newer: make PYTHON=/path/to/python")'
	$(PYTHON) -m venv --clear .venv
	-@$(PIP) --require-hashes -r deploy/requirements-uv.txt
	$(call packages,--require-hashes -r deploy/requirements-demo.txt)
	$(call packages,--no-build-isolation -e .)
	@touch $@

$(STAMP): $(DEMO) deploy/requirements-dev.txt deploy/requirements-xds.txt
	$(call packages,--require-hashes -r deploy/requirements-dev.txt)
	$(call packages,--require-hashes --target .venv/xds -r deploy/requirements-xds.txt)
	@touch $@

programs: build/programs/.unpacked build/programs/usr/bin/promtool ## install what some tests drive from Debian's packages: Chromium, nghttp2's clients, wrk, Redis 7, PgBouncer, promtool
	.ci/programs

# Unpacked, not installed: an installation would start a daemon.
build/programs/.unpacked:
	mkdir -p build/programs/packages
	cd build/programs/packages && (apt-get download -qq pgbouncer libc-ares2 libevent-2.1-7 2>/dev/null || \
	  { apt-get update -qq && apt-get download -qq pgbouncer libc-ares2 $$(apt-cache depends pgbouncer | sed -n 's/.*Depends: \(libevent-2[^ ]*\)$$/\1/p'); })
	for package in build/programs/packages/*.deb; do dpkg -x $$package build/programs; done
	chmod -R a+rX build/programs
	@touch $@

programs-newer: ## unpack Redis 8, Valkey 8 and PgBouncer 1.24 of a newer Debian: make test-redis REDIS=build/programs-newer/usr/bin/redis-server
	.ci/programs-newer build/programs-newer

build/programs/usr/bin/promtool:
	mkdir -p build/programs/prometheus
	cd build/programs/prometheus && (apt-get download -qq prometheus 2>/dev/null || \
	  { apt-get update -qq && apt-get download -qq prometheus; })
	dpkg -x build/programs/prometheus/*.deb build/programs
	chmod -R a+rX build/programs
	@touch $@

demo: $(DEMO) ## run everything on this machine: Envoy, authz, Redis, Postgres, a backend
	$(BIN)/authz demo

test: install ## run every test, with real servers: side by side, then those that measure time one by one (WORKERS=4)
	$(BIN)/python -m pytest -m "not timed" -n $(or $(WORKERS),4) $(BY_FILE) --durations 20 || $(ALONE)
	$(BIN)/python -m pytest -m timed --durations 10

test-redis: install ## run what speaks to Redis against another server than the packaged Valkey (REDIS=redis-server)
	AUTHZ_DEMO_REDIS_SERVER=$$(command -v $(or $(REDIS),redis-server)) $(BIN)/python -m pytest \
	  -m "server and not timed" -n $(or $(WORKERS),4) $(BY_FILE) $(or $(TESTS),tests/adapters/redis tests/contracts)

test-pooler: install programs ## run the end-to-end tests behind PgBouncer (MODE=transaction or session, TEST_PROGRAMS=build/programs-newer)
	TEST_POOLER=$(or $(MODE),transaction) $(BIN)/python -m pytest -m "not timed" -n $(or $(WORKERS),3) $(BY_FILE) tests/e2e

test-fast: install ## run the tests that need no server, with fewer random examples (TESTS=tests/core)
	H2_EXAMPLES=20 $(BIN)/python -m pytest -m "not server and not timed" -n $(or $(WORKERS),2) $(BY_FILE) $(TESTS)

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

bench-tracing: ## what spans of one check in a hundred cost, in CPU of the sidecar, with and without by turns
	$(MAKE) bench ONLY=tracing

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

mixing: install programs ## do processes behind PgBouncer ever change what only another was asked to change? (SECONDS=60)
	PYTHONPATH=tests $(BIN)/python -m longrun.pooler_mixing --seconds $(or $(SECONDS),60)

cold-cache: install ## how soon is service back after Redis lost every key, over a slow network? (DELAY_MS=5)
	PYTHONPATH=tests $(BIN)/python -m longrun.cold_cache --delay-ms $(or $(DELAY_MS),5)

slow-stores: install ## is a sidecar ready over 20 ms, does its log explain 100 ms, what does a locked table cost? (DELAY_S=60 LOCK_S=30)
	PYTHONPATH=tests $(BIN)/python -m longrun.slow_stores --delay-s $(or $(DELAY_S),60) --lock-s $(or $(LOCK_S),30)

failovers: install ## does a revoked key pass around ordered failovers? (FORM=sentinel or cluster, ROUNDS=100, DEGRADE=1)
	PYTHONPATH=tests $(BIN)/python -m longrun.failovers --form $(or $(FORM),sentinel) --rounds $(or $(ROUNDS),100) $(if $(DEGRADE),--degrade)

tls-cost: install ## what TLS between Envoy and authz costs in CPU, with and without by turns (TURNS=5)
	PYTHONPATH=tests $(BIN)/python -m longrun.tls_cost --turns $(or $(TURNS),5)

two-releases: install ## does this tree work together with the release before it on the same stores? (OLD=v0.2.0)
	PYTHONPATH=tests $(BIN)/python -m longrun.two_releases --old "$(OLD)"

reloads: install ## do reloads under load fail a check, mix two policies or grow the process? (RELOADS=1000)
	PYTHONPATH=tests $(BIN)/python -m longrun.reloads --reloads $(or $(RELOADS),1000)

drill: install programs ## raise each alert with real faults and a real Prometheus: build/drill/alerts.md (SHORTEN=60, ONLY=Redis)
	PYTHONPATH=tests $(BIN)/python -m longrun.alerts.drill --shorten $(or $(SHORTEN),60) $(if $(ONLY),--only "$(ONLY)")

dashboards: .venv/.bench programs ## render the dashboards to pictures, from a real stack with faults: build/dashboards/
	PYTHONPATH=tests $(BIN)/python -m longrun.alerts.dashboards

hostile: install ## what attacks on the ports, the log and the parsers cost good keys: p99 at most twice that without
	STRICT_LATENCY=1 $(BIN)/python -m pytest -s tests/e2e/hostile

fuzz: install ## attack the HTTP/2 core with damaged sessions (SECONDS=600)
	PYTHONPATH=tests $(BIN)/python -m longrun.fuzz --seconds $(or $(SECONDS),600)

fuzz-portal: install ## does the portal answer generated requests as its OpenAPI description says? (EXAMPLES=200 SEED=1)
	PYTHONPATH=tests $(BIN)/python -m longrun.portal_fuzz --examples $(or $(EXAMPLES),200) --seed $(or $(SEED),1)

browsers: install build/browsers/bin/geckodriver ## do Firefox and WebKit log in to the demo, over plain HTTP? (ONLY=firefox)
	mkdir -p build/screenshots
	PYTHONPATH=tests $(BIN)/python -m longrun.browsers $(if $(ONLY),--only $(ONLY))

# Debian has no geckodriver; Mozilla publishes its source as a crate.
build/browsers/bin/geckodriver:
	command -v firefox-esr WebKitWebDriver Xvfb >/dev/null && [ -e /usr/lib/*-linux-gnu/webkit2gtk-4.1/MiniBrowser ] || { \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends firefox-esr webkit2gtk-driver xvfb cargo; }
	cargo install --quiet --locked --root build/browsers geckodriver@0.37.1

worst-case: install ## search the inputs that cost most CPU in every parser; fails over 1 ms or beyond linear (SECONDS=60 SEED=1)
	PYTHONPATH=tests $(BIN)/python -m longrun.worst_case --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1)

fuzz-import: install ## import descriptions at random: an error or a policy that opens nothing protected (DOCUMENTS=100000 SEED=0)
	PYTHONPATH=tests $(BIN)/python -m longrun.import_fuzz --documents $(or $(DOCUMENTS),100000) --seed $(or $(SEED),0)

import-real: install ## import the whole descriptions of GitHub, Stripe and Kubernetes; asks 200 operations through Envoy
	PYTHONPATH=tests $(BIN)/python -m longrun.import_real

conformance: install ## hold the HTTP/2 core against python-hyper's h2, in conversations at random (EXAMPLES=20000)
	H2_EXAMPLES=$(or $(EXAMPLES),20000) $(BIN)/python -m pytest --timeout=3600 tests/edge/h2/test_exchange.py

docs: install ## write docs/reference/, docs/runbook.md and deploy/observability/ from the code
	$(BIN)/python -m docs.generate
	$(BIN)/python deploy/observability/write_files.py

dist: install ## build the wheel and the sdist: build/dist/
	rm -rf build/dist
	$(BIN)/python -m hatchling build -d build/dist

tour-installed: dist ## install the wheel into an empty environment, and run the tour from an empty folder
	.ci/tour-installed $(PYTHON) build/dist/*.whl $(wildcard $(BIN)/uv)

LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
  --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade) -o deploy/requirements$(1).txt
AS_DEV := -c deploy/requirements-dev.txt
lock: install ## pin every dependency with hashes, from pyproject.toml, in one version each (UPGRADE=1 takes newer ones)
	echo uv | $(call LOCK,-uv) -
	$(call LOCK,-dev) pyproject.toml --extra demo --extra dev --group build
	$(call LOCK) pyproject.toml $(AS_DEV)
	$(call LOCK,-portal) pyproject.toml $(AS_DEV) --extra portal
	$(call LOCK,-demo) pyproject.toml $(AS_DEV) --extra demo --group build
	$(call LOCK,-bench) pyproject.toml $(AS_DEV) --extra demo --extra dev --extra bench --group build

protos: install ## compile protos/ into authz/_pb/
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=. --pyi_out=. protos/authz/_pb/*.proto

include deploy/deploy.mk
