#!/usr/bin/env bash
# `make test-release`: the build that is released, where it could do otherwise than the one that `make test` tests. Panics unwind
# through optimised code, and what they say is formatted elsewhere: the stories of secrets are told once more.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$ROOT"
# Whoever runs a test by hand afterwards expects the other.
trap 'install_staged dev' EXIT
install_staged release
export PG_CALSYNC_PG_BIN=$STAGED_BIN

say "telling the stories of secrets and panics with the release build"
cargo test --locked --package calsync-integration --test all -- --test-threads=4 secrets panics
