#!/usr/bin/env bash
# `make oracle`: our calendar arithmetic against programs that nobody here wrote, at full size. Some four minutes.
#
# Series against python-dateutil, calendars with overrides and "this and following" against recurring-ical-events,
# libical's corpus against our choices (only where the corpus lies beside the checkout, in ../shared/fixtures/rrule).
# One difference fails it. `make test` runs the same tests at a smaller size.
#
#   PG_CALSYNC_ORACLE_SIZE   how many rules, and how many calendars; 20000 at least are the full size
#   PG_CALSYNC_ORACLE_SEED   a number; other rules and calendars than usual
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$ROOT"
[ -x "$PG_CALSYNC_PYTHON" ] || die "the oracles' Python is missing" "make setup"
export PG_CALSYNC_ORACLE_SIZE=${PG_CALSYNC_ORACLE_SIZE:-20000}

say "building the tests with optimisation"
cargo test --locked --release --quiet --package calsync-core --no-run \
    --test time_libical --test time_oracle --test time_overrides

# A test prints its figures, and of what differs the first cases with both answers.
judged() {
    say "$2"
    cargo test --locked --release --quiet --package calsync-core --test "$1" -- --nocapture --test-threads=1
}
judged time_libical "libical's corpus of 145 rules and 57 events, each disputed rule as the table in time_libical.rs says"
judged time_oracle "$PG_CALSYNC_ORACLE_SIZE generated series, expanded over a year by python-dateutil and by us"
judged time_overrides "$PG_CALSYNC_ORACLE_SIZE generated calendars, expanded by recurring-ical-events and by us"
say "no difference that is not explained"
