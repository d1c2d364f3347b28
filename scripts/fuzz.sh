#!/usr/bin/env bash
# `make fuzz`: random input for what reads other people's text, ten minutes each: the Google parser (answers, items, the
# delta envelope) and the lines of a series. A finding stops it and lies in crates/core/fuzz/artifacts.
#
#   FUZZ_SECONDS   how long each target runs; default 600
#   FUZZ_TARGETS   default "google recurrence"
#
# Needs cargo-fuzz, which it installs, and a nightly toolchain; without one, the stable compiler is told to allow the
# flags. No sanitizer: there is no unsafe code to watch, and the checks are in the targets.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$ROOT/crates/core"

if ! command -v cargo-fuzz >/dev/null; then
    say "building cargo-fuzz (a minute or two, once)"
    cargo install cargo-fuzz --locked --quiet
fi
toolchain=()
if rustup toolchain list 2>/dev/null | grep -q '^nightly'; then toolchain=(+nightly); else export RUSTC_BOOTSTRAP=1; fi

for target in ${FUZZ_TARGETS:-google recurrence}; do
    say "fuzzing $target for ${FUZZ_SECONDS:-600} seconds"
    mkdir -p "fuzz/corpus/$target"
    # The corpus grows from run to run; the seeds are only read.
    cargo "${toolchain[@]}" fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="${FUZZ_SECONDS:-600}" -max_len=4096 -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0
done
say "no finding"
