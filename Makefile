# The commands of allsource. Anything longer than a line or two is in scripts/.

SHELL := /bin/bash
MAKEFLAGS += --no-print-directory

# Debian's own place for version 15 comes first: /usr/bin/pg_config speaks for the newest version.
# It need not be there yet: 'make deps' brings it.
ifneq ($(wildcard /usr/bin/dpkg-query),)
PG_CONFIG ?= /usr/lib/postgresql/15/bin/pg_config
else
PG_CONFIG ?= $(or $(shell command -v pg_config),pg_config)
endif
DESTDIR ?=
# A build server makes a new clone for each run and must not compile pgrx each time.
ifeq ($(CI),true)
CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/allsource/target
else
CARGO_TARGET_DIR ?= $(CURDIR)/target
endif
# Cargo features beside that of PostgreSQL's version: rocksdb, the sidecar of hot partitions.
FEATURES ?=
export PG_CONFIG DESTDIR CARGO_TARGET_DIR TESTS FEATURES

# pgrx takes PostgreSQL from here, so no 'cargo pgrx init' is needed. It must be the same for every
# call of cargo: pgrx is recompiled when it changes.
export PGRX_PG_CONFIG_PATH = $(PG_CONFIG)

.DEFAULT_GOAL := help
.PHONY: help deps build install uninstall demo psql stop cluster-demo cluster-up cluster-psql cluster-down test bench bench-peers fmt lint clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PG_CONFIG=$(PG_CONFIG)"
	@echo "  FEATURES=rocksdb builds with the sidecar of hot partitions; RocksDB is compiled once, which takes a while."
	@echo "  DESTDIR, CARGO_TARGET_DIR and ALLSOURCE_HOME (the private clusters' folder) count too."

deps: ## install what a build needs
	@scripts/deps.sh build

build: ## compile the release
	@scripts/build.sh

install: build ## install the extension into PG_CONFIG's PostgreSQL (DESTDIR)
	@scripts/install.sh install

uninstall: ## remove it from there
	@scripts/install.sh uninstall

demo: ## load this machine's package history into a private server, and look at it
	@scripts/deps.sh build
	@$(MAKE) install
	@scripts/demo.sh

psql: ## connect to the demo's server
	@scripts/demo.sh psql

stop: ## stop the demo's server
	@scripts/demo.sh stop

cluster-demo: ## the same through a router to groups of servers: a group joins, a primary is killed
	@scripts/deps.sh cluster
	@$(MAKE) install
	@scripts/cluster-demo.sh demo

cluster-up: ## start groups of servers, a coordinator and a router on this machine
	@scripts/deps.sh cluster
	@$(MAKE) install
	@scripts/cluster-demo.sh up

cluster-psql: ## connect to that router
	@scripts/cluster-demo.sh psql

cluster-down: ## stop that cluster, and remove it
	@scripts/cluster-demo.sh down

test: ## run all tests, or some kinds: KINDS="unit regress"
	@scripts/deps.sh test
	@scripts/test.sh $(KINDS)

bench: ## measure, some minutes; results in target/bench/results.json; BENCH="--quick"
	@scripts/deps.sh bench
	@$(MAKE) install FEATURES=rocksdb
	@benches/run.sh $(BENCH)

bench-peers: ## the same with UmaDB, which takes minutes to compile
	@scripts/deps.sh bench-peers
	@$(MAKE) install FEATURES=rocksdb
	@benches/run.sh --peers $(BENCH)

fmt: ## format the code
	cargo fmt --all
	for package in tests/e2e benches/*/; do cargo fmt --manifest-path $$package/Cargo.toml || exit; done

lint: ## check with the formatter, clippy and shellcheck
	@scripts/deps.sh test
	@scripts/lint.sh

clean: ## remove what was built, and the demos' servers with their data
	cargo clean
	@scripts/demo.sh remove
	@scripts/cluster-demo.sh down
