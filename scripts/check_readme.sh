#!/usr/bin/env bash
# Types the README's tour word by word into psql and compares what is shown with what the README shows; dates and
# offsets from UTC may differ. The extension must be installed into the private Postgres.
set -euo pipefail
. "$(dirname "$0")/env.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

tour() { sed -n '/^## A five-minute tour/,/^## Real Google/p' "$ROOT/README.md"; }
# A moment after each block, for the worker has its own pace.
tour | awk '/^```$/ { inside = 0; next } /^```sql$/ { inside = 1; print "\\! sleep 1"; next } inside' >"$work/typed"
tour | awk '/^```sql$/ { sql = 1; next } /^```$/ { if (sql) sql = 0; else shown = !shown; next } shown' >"$work/wanted"
"$ROOT/demo/with_company.sh" "$ROOT/demo/play.sh" <"$work/typed" >"$work/shown" 2>&1

# Commands' tags and psql's empty lines are not shown in the README.
plain() {
    grep -vE '^(==> .*|CREATE (EXTENSION|TABLE)|SET|INSERT 0 1|)$' "$1" \
        | sed -E 's/[0-9]{4}-[0-9]{2}-[0-9]{2}/DATE/g; s/\+0[12]"/+TZ"/g; s/ +$//'
}
diff <(plain "$work/wanted") <(plain "$work/shown") || die "psql shows (>) something else than the README's tour (<)"
echo "the README's tour: $(wc -l <"$work/typed") lines typed, all answers as shown there"
