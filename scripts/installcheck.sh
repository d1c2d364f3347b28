#!/usr/bin/env bash
# `make installcheck`: the regression tests against a running server that has the extension installed. Which server:
# as libpq finds it (PGHOST, PGPORT, PGUSER). It makes and drops the database `contrib_regression`.
set -euo pipefail
. "$(dirname "$0")/env.sh"
PG_CONFIG=$(command -v "$1") || die "there is no $1" "make installcheck PG_CONFIG=/path/to/pg_config"
regress=$(dirname "$("$PG_CONFIG" --pgxs)")/../test/regress/pg_regress
[ -x "$regress" ] || die "this server has no pg_regress" "apt-get install postgresql-server-dev-$PG_MAJOR"
cd "$ROOT/tests/pg_regress"
tests=$(for file in sql/*.sql; do basename "$file" .sql; done)
output=$(mktemp -d)
# shellcheck disable=SC2086
"$regress" --bindir="$("$PG_CONFIG" --bindir)" --inputdir=. --outputdir="$output" \
    --dbname=contrib_regression --load-extension=pg_calsync $tests \
    || { cat "$output/regression.diffs" >&2; exit 1; }
rm -rf "$output"
