#!/usr/bin/env bash
# `make install`: copies what `make` built into the server of PG_CONFIG, below DESTDIR if that is given. It does not
# build: under sudo there is often no cargo, and what root builds the user cannot build again.
set -euo pipefail
. "$(dirname "$0")/env.sh"
PG_CONFIG=$(command -v "$1") || die "there is no $1" "make install PG_CONFIG=/usr/lib/postgresql/$PG_MAJOR/bin/pg_config"
built=$ROOT/target/package/release
[ -f "$built$("$PG_CONFIG" --pkglibdir)/pg_calsync.so" ] \
    || die "nothing is built yet for the server of $PG_CONFIG" "Run first, without sudo: make PG_CONFIG=$PG_CONFIG"
(cd "$built" && find . -type f) | while read -r file; do
    install -D -m 644 "$built/$file" "$2/$file" 2>/dev/null \
        || die "cannot write $2/${file#./}" "Run: sudo make install PG_CONFIG=$PG_CONFIG"
    echo "$2/${file#./}"
done
