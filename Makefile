# What a Postgres extension's Makefile offers, and two commands for strangers: `make demo` and `make test`.
#
#   make                    builds for the server of PG_CONFIG (default: pg_config in PATH)
#   make install            installs what was built into that server (DESTDIR is honoured); never builds, for sudo
#   make installcheck       runs the regression tests against that running server, as psql would reach it
#   make demo | test        set up what they need, on a private copy of Postgres; yours is left alone
#   make test-release       the stories of secrets and panics with the build that is released
#   make play               a psql prompt on a cluster of its own, with a fake Google to play with
#   make oracle             the calendar arithmetic against python-dateutil, recurring-ical-events and libical, full size
#   make soak               the storm of random acts and faults: SEEDS=40 of them, or SEED=17 again (docs/reliability.md)
#   make mutants            plants each bug of tests/mutations and demands that a test notices
#   make fuzz               FUZZ_SECONDS=600 of random input for each target of crates/core/fuzz
#   make lint | bench | fmt | clean

PG_CONFIG ?= pg_config
DESTDIR ?=
SHELL := /bin/bash

.PHONY: all install installcheck setup demo play test test-release lint fmt bench oracle soak mutants fuzz clean
.DEFAULT_GOAL := all

all:
	@scripts/build.sh "$(PG_CONFIG)"

install:
	@scripts/install.sh "$(PG_CONFIG)" "$(DESTDIR)"

installcheck:
	@scripts/installcheck.sh "$(PG_CONFIG)"

setup:
	@scripts/setup.sh

demo: setup
	@scripts/demo.sh

play: setup
	@scripts/demo.sh play

test: setup
	@scripts/test.sh

test-release: setup
	@scripts/test_release.sh

lint:
	@scripts/setup.sh lint
	@scripts/lint.sh

fmt:
	cargo fmt --all

bench: setup
	@scripts/bench.sh

oracle: setup
	@scripts/oracle.sh

soak: setup
	@SEEDS="$(SEEDS)" SEED="$(SEED)" FIRST="$(FIRST)" ACTS="$(ACTS)" THREADS="$(THREADS)" scripts/soak.sh

mutants: setup
	@ONLY="$(ONLY)" scripts/mutants.sh

fuzz:
	@scripts/fuzz.sh

clean:
	cargo clean
