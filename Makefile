# make test   everything that CI runs: formatting, house rules, unit and property tests, the command itself
# make system the same on real parts: Postgres, sshd and lab nodes (root, Debian packages)
# make lint   clippy, warnings as errors
# make build  the plinth command
SHELL := /bin/bash
CARGO ?= cargo
# Crates whose tests need nothing but this machine's Rust.
PLAIN := -p engine-core -p engine-catalog -p api-cli -p tests
# Crates whose tests start real servers and machines.
SYSTEM := -p engine-agent -p engine-store -p engine-remote -p engine-provider

.PHONY: build test system lint fmt packages
build:
	$(CARGO) build -p api-cli

fmt:
	$(CARGO) fmt --all --check

test: fmt
	$(CARGO) test $(PLAIN)

packages:
	tests/packages.sh

system: packages
	$(CARGO) test $(SYSTEM)

lint:
	$(CARGO) clippy --workspace --all-targets -- -D warnings
