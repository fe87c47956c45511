# make demo     an etcd cluster on three lab nodes of this machine, from nothing; make demo-down takes it away
# make test     everything that CI runs, on real parts: Postgres, sshd, lab nodes (root; installs missing Debian packages)
# make quick    unit and property tests, house rules, simulation, the command itself: no root, no machines
# make lint     clippy over everything, warnings as errors
# make fmt      formatting, as it should be
# make build    the plinth command (target/debug/plinth) and the agent that it puts on nodes
# make release  the same, optimised (target/release/plinth): twice the time to build, a fraction of the time to run
# make install  the optimised command and the agent below PREFIX (/usr/local)
# make agent    the agent alone: one static binary
# make sqlx     what sqlx remembers of queries, after one was changed
# make packages the Debian packages that tests need
SHELL := /bin/bash
CARGO ?= cargo
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
TRIPLE := $(shell uname -m)-unknown-linux-gnu

# Clippy compiles what it looks at, so tests are built by it as they are: our crates once, other crates not at all anew.
CLIPPY := RUSTC_WORKSPACE_WRAPPER='$(shell rustc --print sysroot)/bin/clippy-driver'
# Always the whole workspace: cargo chooses the features of dependencies by what is built together, so that `-p` would
# build most of them once more.
TESTS := $(CARGO) test --workspace
# A test that hangs is named by what runs for over 60 seconds, and ended with its program after this; the others still run.
LIMIT := CARGO_TARGET_$(shell echo '$(TRIPLE)' | tr 'a-z-' 'A-Z_')_RUNNER='timeout --foreground --verbose 25m'

PREFIX ?= /usr/local

.PHONY: demo demo-down build release install agent test quick lint sqlx fmt packages
demo: packages build
	tests/demo.sh up

demo-down:
	tests/demo.sh down

build: agent
	$(CARGO) build --workspace --bins

release: agent
	$(CARGO) build --release --workspace --bins

install: release
	install -D '$(TARGET)/release/plinth' '$(DESTDIR)$(PREFIX)/bin/plinth'
	install -D '$(TARGET)/plinth-agent' '$(DESTDIR)$(PREFIX)/lib/plinth/plinth-agent'

# Another profile and other flags, so a folder of its own: nothing here and there is built anew because of the other.
agent:
	CARGO_TARGET_DIR='$(TARGET)/agent' RUSTFLAGS='-C target-feature=+crt-static' \
	    $(CARGO) build --profile agent --package engine-agent --target $(TRIPLE)
	install '$(TARGET)/agent/$(TRIPLE)/agent/plinth-agent' '$(TARGET)/plinth-agent'

fmt:
	$(CARGO) fmt --all --check

lint:
	@mkdir -p '$(TARGET)'
	$(CLIPPY) $(TESTS) --no-run 2>&1 | tee '$(TARGET)/lint.log'; exit $${PIPESTATUS[0]}
	@! grep -E '^(warning|error)' '$(TARGET)/lint.log' || { echo 'lint: warnings are errors here'; exit 1; }

# What sqlx remembers of every query, for builds without a database. A house rule compares it with the sources.
sqlx:
	rm -rf .sqlx && mkdir .sqlx && touch engine/store/src/lib.rs
	DATABASE_URL="$$(tests/dev-db.sh start)" SQLX_OFFLINE_DIR='$(CURDIR)/.sqlx' SQLX_OFFLINE=false $(CARGO) build --workspace

# The tests that run are what clippy compiled. One failure does not hide the others.
test: packages agent fmt lint
	$(LIMIT) $(CLIPPY) $(TESTS) --no-fail-fast

quick: fmt
	$(TESTS) --lib --bins
	$(TESTS) --test documents --test sim --test tidy

packages:
	tests/packages.sh
