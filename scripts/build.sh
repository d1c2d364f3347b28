#!/usr/bin/env bash
# `make`: builds for the server of PG_CONFIG.
set -euo pipefail
. "$(dirname "$0")/env.sh"
PG_CONFIG=$(command -v "$1") || die "there is no $1" "make PG_CONFIG=/usr/lib/postgresql/$PG_MAJOR/bin/pg_config"
[ -x "$TOOLS/bin/cargo-pgrx" ] || "$(dirname "$0")/setup.sh"
package_extension "$PG_CONFIG" release
say "built; make install PG_CONFIG=$PG_CONFIG puts it into that server"
