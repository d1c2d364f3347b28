#!/usr/bin/env bash
# Installs what building and testing need on Debian 12, and nothing twice: Debian packages (with sudo where we are not
# root), cargo-pgrx into the user's cache, a private copy of Postgres and a Python environment below $STAGE. With the
# argument `lint` cargo-deny too, into the user's cache.
set -euo pipefail
. "$(dirname "$0")/env.sh"

PACKAGES="postgresql-$PG_MAJOR postgresql-server-dev-$PG_MAJOR libclang-dev clang pkg-config libssl-dev openssl curl
          python3 python3-venv util-linux"

sudo_or_not() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

missing_packages() {
    local package
    for package in $PACKAGES; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

install_packages() {
    local missing; missing=$(missing_packages | xargs)
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "this machine has no apt-get" "Install by hand: $missing"
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "packages are missing and there is no sudo" \
        "As root: apt-get install $missing"
    say "installing Debian packages: $missing (a minute or two)"
    # Debian's Postgres package makes and starts a cluster of its own when it first comes: not what was asked for.
    local no_cluster=/etc/postgresql-common/createcluster.d/pg_calsync-setup.conf
    sudo_or_not mkdir -p "$(dirname "$no_cluster")"
    echo 'create_main_cluster = false' | sudo_or_not tee "$no_cluster" >/dev/null
    sudo_or_not apt-get -qq update
    # shellcheck disable=SC2086
    sudo_or_not env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null
    sudo_or_not rm -f "$no_cluster"
}

install_cargo_pgrx() {
    [ -x "$TOOLS/bin/cargo-pgrx" ] && return 0
    mkdir -p "$TOOLS/bin"
    if [ "$(cargo-pgrx pgrx --version 2>/dev/null)" = "cargo-pgrx $PGRX_VERSION" ]; then
        ln -sf "$(command -v cargo-pgrx)" "$TOOLS/bin/cargo-pgrx"
        return 0
    fi
    say "building cargo-pgrx $PGRX_VERSION (four to five minutes, once)"
    cargo install cargo-pgrx --version "=$PGRX_VERSION" --locked --root "$TOOLS" --quiet
}

install_cargo_deny() {
    [ -x "$DENY/bin/cargo-deny" ] && return 0
    say "building cargo-deny $DENY_VERSION (three to four minutes, once)"
    cargo install cargo-deny --version "=$DENY_VERSION" --locked --root "$DENY" --quiet
}

# A copy of the server that finds its libraries and extensions beside itself: Postgres is relocatable as long as the
# relative places of bin, lib and share stay the same.
stage_postgres() {
    local bin wanted; bin=$(/usr/lib/postgresql/$PG_MAJOR/bin/pg_config --version)
    wanted="$bin, with its messages in other languages"
    [ "$(cat "$STAGED_PG/version" 2>/dev/null)" = "$wanted" ] && return 0
    say "copying $bin to a private place"
    rm -rf "$STAGED_PG"
    mkdir -p "$STAGED_PG"/{lib,share,include}/postgresql
    cp -a "/usr/lib/postgresql/$PG_MAJOR" "$STAGED_PG/lib/postgresql/"
    cp -aL "/usr/share/postgresql/$PG_MAJOR" "$STAGED_PG/share/postgresql/"
    ln -s "/usr/include/postgresql/$PG_MAJOR" "$STAGED_PG/include/postgresql/$PG_MAJOR"
    ln -s /usr/share/locale "$STAGED_PG/share/locale"
    echo "$wanted" >"$STAGED_PG/version"
}

# Google's own Python client, the recurrence oracles, what the example needs and what lints our SQL, pinned.
stage_python() {
    local requirements wanted
    requirements=$(cd "$ROOT" && ls crates/*/tests/requirements.txt crates/*/tests/*/requirements.txt examples/requirements.txt \
        scripts/requirements.txt)
    wanted=$(cd "$ROOT" && cat $requirements | cksum)
    [ "$(cat "$STAGE/python/wanted" 2>/dev/null)" = "$wanted" ] && return 0
    say "installing Python packages for the tests: Google's client, python-dateutil (half a minute)"
    python3 -m venv --clear "$STAGE/python"
    (cd "$ROOT" && "$STAGE/python/bin/pip" install --quiet --disable-pip-version-check \
        $(printf -- '-r %s ' $requirements))
    echo "$wanted" >"$STAGE/python/wanted"
}

command -v cargo >/dev/null || die "there is no cargo" "Install Rust 1.95 (rustup), then run this again."
install_packages
mkdir -p "$STAGE"
install_cargo_pgrx
stage_postgres
stage_python
[ "${1:-}" != lint ] || install_cargo_deny
