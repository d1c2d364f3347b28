#!/usr/bin/env bash
# `make demo`: the main job, on a cluster of its own, with the real worker and a fake Google. Fails where an answer is
# not what it should be. `make play`: the same company, and a psql prompt instead of the tour.
set -euo pipefail
. "$(dirname "$0")/env.sh"
install_staged dev
say "starting a fake Google, and a Postgres cluster of its own in a temporary directory"
"$ROOT/demo/with_company.sh" "$ROOT/demo/${1:-tour}.sh"
