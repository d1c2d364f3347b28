#!/usr/bin/env bash
# `make soak`: SEEDS=40 seeds of the storm, from FIRST=1 on; or SEED=n alone, telling each act. ACTS=300 acts a seed,
# THREADS=3 seeds at the same time. The tests' page (tests/integration/tests/storm/main.rs) says what they do.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$ROOT"
install_staged dev
export PG_CALSYNC_PG_BIN=$STAGED_BIN
export STORM_SEEDS=${SEEDS:-} STORM_FIRST=${FIRST:-} STORM_SEED=${SEED:-} STORM_ACTS=${ACTS:-} STORM_THREADS=${THREADS:-}
cargo test --locked --quiet --package calsync-integration --test storm
