#!/usr/bin/env bash
# Runs a command against a throw-away cluster whose Google is a fake on this machine, with the company's calendars.
set -euo pipefail
. "$(dirname "$0")/../scripts/env.sh"
. "$ROOT/scripts/fake_google.sh"
. "$ROOT/demo/company.sh"

start_fake_google
at_google POST /load "$(company)"
PG_CALSYNC_CONF="calsync.google_api_url = '$FAKE_API'
calsync.allow_private_network = on" "$ROOT/scripts/with_cluster.sh" "$@"
