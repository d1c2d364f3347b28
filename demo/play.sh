#!/usr/bin/env bash
# `make play`: a prompt where everything of the README can be typed. What comes on standard input is run instead.
set -euo pipefail
. "$(dirname "$0")/../scripts/env.sh"
. "$ROOT/scripts/fake_google.sh"

createdb play
export PGDATABASE=play
say "anna@example.com, ben@example.com and carol@example.com have calendars at the fake Google"
say "what happens there: curl -X POST $FAKE_CONTROL/calendars/anna@example.com/events -d '{...}'; see crates/fake-google"
say "begin with CREATE EXTENSION pg_calsync; and leave with \\q: then it is all gone"
psql -X
