#!/usr/bin/env bash
# `make mutants`: plants each bug of tests/mutations in a copy of the source and demands that the test named there fails.
# ONLY="no_sweep page_one_only" plants these alone. Exits with 1 where a bug went unnoticed, 2 where one could not be
# planted or built. tests/mutations/README.md has the form of the files.
set -uo pipefail
. "$(dirname "$0")/env.sh"
cd "$ROOT"
COPY=$ROOT/target/mutants/source
LOGS=$ROOT/target/mutants/logs
# Not the tree's: cargo tells the copy's packages from the tree's by nothing but the date of their files.
TARGET=$ROOT/target/mutants/target
MUTANT_PG=$STAGE/mutant-pg
mkdir -p "$COPY" "$LOGS"
make_pgrx_home

say "a copy of Postgres for the mutants"
rm -rf "$MUTANT_PG" && cp -a "$STAGED_PG" "$MUTANT_PG"
MUTANT_BIN=$MUTANT_PG/lib/postgresql/$PG_MAJOR/bin

# The tests themselves are of the real tree; only what they test is planted. They are kept, lest somebody's editing here
# while the mutants run be tested with them.
say "building the tests"
for suite in storm all; do
    executable=$(cargo test --locked --package calsync-integration --test $suite --no-run 2>&1 \
        | sed -n 's/^ *Executable .* (\(.*\))$/\1/p')
    [ -n "$executable" ] || die "the tests do not build" "cargo test --package calsync-integration --no-run tells why."
    cp "$executable" "$ROOT/target/mutants/test-$suite"
done

build() {
    (cd "$COPY" && CARGO_TARGET_DIR=$TARGET PGRX_HOME=$ROOT/target/pgrx-home \
        PGRX_PG_CONFIG_PATH=$MUTANT_BIN/pg_config PATH=$TOOLS/bin:$PATH \
        cargo pgrx install --package pg_calsync --pg-config "$MUTANT_BIN/pg_config" --no-default-features \
        --features "pg$PG_MAJOR") >"$1" 2>&1
}

run_test() {
    local suite=$1 filter=$2
    case $suite in
    storm)
        STORM_FIRST=${filter%-*} STORM_SEEDS=$((${filter#*-} - ${filter%-*} + 1)) STORM_THREADS=2 \
            PG_CALSYNC_PG_BIN=$MUTANT_BIN timeout 900 "$ROOT/target/mutants/test-storm" ;;
    *)
        PG_CALSYNC_PG_BIN=$MUTANT_BIN timeout 900 "$ROOT/target/mutants/test-$suite" "$filter" ;;
    esac
}

# 0: caught, 1: survived, 2: could not be planted.
try_mutant() {
    local file=$1 name suite filter
    name=$(basename "$file" .mutation)
    python3 scripts/plant.py "$ROOT" "$COPY" "$file" >"$LOGS/$name.plant" 2>&1 || { outcome="NOT PLANTED"; return 2; }
    read -r suite filter <"$LOGS/$name.plant"
    caught_by="$suite $filter"
    build "$LOGS/$name.build" || { outcome="DOES NOT BUILD"; return 2; }
    if run_test "$suite" "$filter" >"$LOGS/$name.test" 2>&1; then outcome="SURVIVED"; return 1; fi
    outcome=caught
}

worst=0 planted=0
table=$(printf '%-34s %-16s %-6s %s' mutation outcome "s" "test")
for file in tests/mutations/*.mutation; do
    name=$(basename "$file" .mutation)
    [ -z "${ONLY:-}" ] || case " $ONLY " in *" $name "*) ;; *) continue ;; esac
    begun=$SECONDS caught_by=
    try_mutant "$file"; status=$?
    [ $status -le $worst ] || worst=$status
    planted=$((planted + 1))
    line=$(printf '%-34s %-16s %-6s %s' "$name" "$outcome" $((SECONDS - begun)) "$caught_by")
    say "$line"
    table+=$'\n'$line
done
printf '%s\n' "$table"
[ $planted -gt 0 ] || die "no mutation of tests/mutations was named by ONLY=$ONLY"
[ $worst = 0 ] || echo "logs: $LOGS" >&2
exit $worst
