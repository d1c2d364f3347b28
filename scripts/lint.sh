#!/usr/bin/env bash
# `make lint`: formatting, clippy with warnings denied, pgspot on the SQL, cargo deny on what we depend on, planted bugs in place.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$ROOT"
export PGRX_HOME=$ROOT/target/pgrx-home PGRX_PG_CONFIG_PATH=$STAGED_PG_CONFIG
make_pgrx_home

# The script as it is built: the files in the order in which src/lib.rs names them.
extension_script() {
    local files; files=$(sed -n 's|^extension_sql_file!("../\(sql/[a-z_]*\.sql\)".*|\1|p' src/lib.rs)
    [ -n "$files" ] || die "src/lib.rs names no SQL files" "scripts/lint.sh must follow it."
    # shellcheck disable=SC2086
    cat $files
}

# pgspot 0.9.4 cannot read bodies that stand in the statement itself: it is shown them as strings.
spot() {
    extension_script | sed 's/^BEGIN ATOMIC$/AS $atomic$/; s/^END;$/$atomic$;/' | "$STAGE/python/bin/pgspot" "$@"
}

# Functions without a search_path of their own, each with its reason.
SPOT_EXCEPTIONS=(
    # BEGIN ATOMIC: Postgres looks its names up once, when the extension is created, and never again.
    --proc-without-search-path 'calsync_explain(during tstzrange,calendars text[])'
    # BEGIN ATOMIC.
    --proc-without-search-path 'calsync_changes(since bigint,calendars text[],calendar text,change_id bigint,event_id text,what text,before tstzrange,after tstzrange,busy_status_before calsync.busy_status,busy_status_after calsync.busy_status,changed_at timestamptz)'
)

# Vulnerabilities become known after a release: their list is fetched, and where that cannot be, it is said.
check_advisories() {
    if timeout 120 "$DENY/bin/cargo-deny" --log-level off fetch db 2>/dev/null; then
        "$DENY/bin/cargo-deny" --locked --offline check advisories
    else
        say "NOT CHECKED: known vulnerabilities. Their list cannot be fetched here (see [advisories] in deny.toml)"
    fi
}

say "checking the formatting"
cargo fmt --all -- --check
say "looking for unsafe SQL (pgspot)"
spot "${SPOT_EXCEPTIONS[@]}"
say "checking licences, sources and bans of what we depend on (cargo deny)"
# cargo deny reads what cargo has fetched, and on a new machine that is nothing.
cargo fetch --locked --quiet
"$DENY/bin/cargo-deny" --locked --offline check --hide-inclusion-graph licenses sources bans
say "checking for known vulnerabilities of what we depend on"
check_advisories
say "looking whether each planted bug still has its place (make mutants)"
for mutation in tests/mutations/*.mutation; do python3 scripts/plant.py "$ROOT" "$mutation"; done
say "running clippy (two minutes the first time)"
cargo clippy --locked --workspace --all-targets -- --deny warnings
