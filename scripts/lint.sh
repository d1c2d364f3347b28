#!/usr/bin/env bash
# `make lint`: formatting, clippy with warnings denied, documentation links.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$ROOT"
export PGRX_HOME=$ROOT/target/pgrx-home PGRX_PG_CONFIG_PATH=$STAGED_PG_CONFIG
make_pgrx_home
say "checking the formatting"
cargo fmt --all -- --check
say "running clippy (two minutes the first time)"
cargo clippy --locked --workspace --all-targets -- --deny warnings
