#!/usr/bin/env bash
# Installs what is missing, and only that: deps.sh build|test|bench|bench-peers|cluster
# This is the one place that names packages.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

RUST_MIN=1.95
CARGO_PGRX=0.18.1 # the version of pgrx in Cargo.toml

# libclang: pgrx reads PostgreSQL's headers with it. gcc: the linker for Rust.
PACKAGES_BUILD=(postgresql-15 postgresql-server-dev-15 libclang-14-dev gcc libc6-dev make)
# g++: RocksDB, for the feature of that name.
PACKAGES_ROCKSDB=(g++)
case " ${FEATURES:-} " in *rocksdb*) PACKAGES_BUILD+=("${PACKAGES_ROCKSDB[@]}") ;; esac
# sudo: how cargo-pgrx changes to the server's user. libssl-dev, pkg-config: to compile cargo-pgrx.
# python3-venv: pgspot. shellcheck: for these scripts. postgresql-15-repack: what operators use on the
# store's tables, in a test.
PACKAGES_TEST=(sudo pkg-config libssl-dev python3-venv shellcheck postgresql-15-repack)
# npm: message-db, which we measure against. One that did not come from Debian does as well, and
# Debian's would be in conflict with it.
PACKAGES_BENCH=()
command -v npm >/dev/null || PACKAGES_BENCH=(npm)
# protobuf-compiler: UmaDB, likewise.
PACKAGES_BENCH_PEERS=("${PACKAGES_BENCH[@]}" protobuf-compiler)
# Groups of nodes. Neither package makes or starts a cluster; pg_autoctl makes
# its own, where it is told to.
PACKAGES_CLUSTER=(pg-auto-failover-cli postgresql-15-auto-failover)

check_rust() {
    command -v cargo >/dev/null || die "cargo not found: install Rust $RUST_MIN or newer with rustup"
    local have
    have=$(cargo --version | cut -d ' ' -f 2)
    [ "$(printf '%s\n' "$RUST_MIN" "$have" | sort -V | head -n 1)" = "$RUST_MIN" ] ||
        die "Rust $have is too old: this needs $RUST_MIN or newer (rustup update)"
}

missing_packages() {
    local package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
    done
}

# Debian makes and starts a cluster as soon as the server is installed. It is not needed here, so
# that is switched off for the time of this installation.
NO_CLUSTER=/etc/postgresql-common/createcluster.d/allsource.conf
without_main_cluster() {
    as_root mkdir -p "$(dirname $NO_CLUSTER)"
    echo 'create_main_cluster = false' | as_root tee $NO_CLUSTER >/dev/null
    trap 'as_root rm -f $NO_CLUSTER' EXIT
}

install_packages() {
    local missing
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        check_without_apt "$@"
        return
    fi
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    case " ${missing[*]} " in *" postgresql-15 "*) without_main_cluster ;; esac
    as_root apt-get -qq update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" ||
        die "apt-get could not install ${missing[*]}"
}

# Elsewhere the packages have other names; what counts is what they bring.
check_without_apt() {
    local pg_config
    pg_config=$(find_pg_config 2>/dev/null) || pg_config=false
    if [[ "$("$pg_config" --version 2>/dev/null)" != "PostgreSQL 15"* ]] ||
        [ ! -e "$("$pg_config" --includedir-server)/postgres.h" ]; then
        die "there is no apt here; please install what these Debian packages bring, and give PG_CONFIG: $*"
    fi
}

install_cargo_pgrx() {
    [ "$(cargo pgrx --version 2>/dev/null)" != "cargo-pgrx $CARGO_PGRX" ] || return 0
    say "compiling cargo-pgrx $CARGO_PGRX (some minutes, once)"
    # Unoptimised it compiles in half the time; it is only there to start other programs.
    cargo install --quiet --locked --debug --version "=$CARGO_PGRX" cargo-pgrx ||
        die "cargo could not install cargo-pgrx $CARGO_PGRX"
}

install_pgspot() {
    local venv
    venv=$(pgspot_venv)
    [ ! -x "$venv/bin/pgspot" ] || return 0
    say "installing pgspot $PGSPOT"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet "pgspot==$PGSPOT" || die "pip could not install pgspot $PGSPOT"
}

check_rust
case ${1:-} in
    build) install_packages "${PACKAGES_BUILD[@]}" ;;
    test)
        install_packages "${PACKAGES_BUILD[@]}" "${PACKAGES_ROCKSDB[@]}" "${PACKAGES_TEST[@]}" "${PACKAGES_CLUSTER[@]}"
        install_cargo_pgrx
        install_pgspot
        ;;
    bench) install_packages "${PACKAGES_BUILD[@]}" "${PACKAGES_ROCKSDB[@]}" "${PACKAGES_BENCH[@]}" ;;
    bench-peers) install_packages "${PACKAGES_BUILD[@]}" "${PACKAGES_ROCKSDB[@]}" "${PACKAGES_BENCH_PEERS[@]}" ;;
    cluster) install_packages "${PACKAGES_BUILD[@]}" "${PACKAGES_CLUSTER[@]}" ;;
    *) die "usage: deps.sh build|test|bench|bench-peers|cluster" ;;
esac
