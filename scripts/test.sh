#!/usr/bin/env bash
# `make test`: every test there is. The server's part runs on a private copy of Postgres, in clusters of its own.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$ROOT"
install_staged dev
export PG_CALSYNC_PG_BIN=$STAGED_BIN

say "testing the deciding half and the fake Google"
cargo test --locked --package calsync-core --package fake-google
say "testing against real clusters, a real worker and real HTTP"
cargo test --locked --package calsync-integration -- --test-threads=4
say "running the regression tests on a cluster of their own"
scripts/with_cluster.sh scripts/installcheck.sh "$STAGED_PG_CONFIG"
say "feeding the cache with the example for real Google, against the fake"
scripts/with_cluster.sh examples/test_google_feed.sh
say "typing the README's tour"
scripts/check_readme.sh
