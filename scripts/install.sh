#!/usr/bin/env bash
# `make install`: copies what `make` built into the server of PG_CONFIG, below DESTDIR if that is given.
set -euo pipefail
. "$(dirname "$0")/env.sh"
built=$ROOT/target/package/release
(cd "$built" && find . -type f) | while read -r file; do
    install -D -m 644 "$built/$file" "$2/$file" 2>/dev/null \
        || die "cannot write $2/${file#./}" "Run: sudo make install PG_CONFIG=$1"
    echo "$2/${file#./}"
done
