# Sourced by what needs a fake Google: builds it, starts it on free ports of loopback, ends it with the script.
#
# FAKE_API      where it answers as Google does, as calsync.google_api_url wants it
# FAKE_CONTROL  where it is told what happens; the page of crates/fake-google lists the paths

start_fake_google() {
    local ready
    cargo build --quiet --locked --manifest-path "$ROOT/Cargo.toml" --package fake-google
    ready=$(mktemp)
    "$ROOT/target/debug/fake-google" --listen 127.0.0.1:0 --control 127.0.0.1:0 >"$ready" &
    FAKE_PID=$!
    # An EXIT trap of the caller's own would replace this one: it must then do the same.
    trap 'kill $FAKE_PID 2>/dev/null' EXIT
    for _ in $(seq 300); do
        if [ -s "$ready" ] || ! kill -0 $FAKE_PID 2>/dev/null; then break; fi
        sleep 0.1
    done
    FAKE_API=$(sed -nE 's/.*API ([^,]+), control .*/\1/p' "$ready")
    FAKE_CONTROL=$(sed -nE 's/.*, control (.*)/\1/p' "$ready")
    rm -f "$ready"
    [ -n "$FAKE_CONTROL" ] || die "the fake Google did not start"
    export FAKE_API FAKE_CONTROL
}

# What happens at Google: METHOD PATH [BODY], to its control port. Prints nothing.
at_google() { curl --silent --show-error --fail --output /dev/null -X "$1" "$FAKE_CONTROL$2" ${3:+--data "$3"}; }
