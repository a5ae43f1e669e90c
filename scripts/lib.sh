# What the other scripts share; sourced, never run.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# say: one step begins. die: one clear sentence, and the end.
say() { printf '==> %s\n' "$*"; }
die() {
    printf 'allsource: %s\n' "$*" >&2
    exit 1
}

# Debian keeps each major version in a folder of its own, and its /usr/bin/pg_config speaks for the
# newest of them, which need not be 15.
find_pg_config() {
    if [ -n "${PG_CONFIG:-}" ]; then
        echo "$PG_CONFIG"
    elif [ -x /usr/lib/postgresql/15/bin/pg_config ]; then
        echo /usr/lib/postgresql/15/bin/pg_config
    else
        command -v pg_config || die "pg_config not found: run 'make deps', or give PG_CONFIG=/path/to/pg_config"
    fi
}

# PostgreSQL refuses to run as root, so root hands everything of the server to this user.
server_user() { if [ "$(id -u)" = 0 ]; then echo "${ALLSOURCE_SERVER_USER:-postgres}"; else id -un; fi; }

# Runs a command as that user; SERVER_USER is set before.
as_server() {
    # Or Rust adds a backtrace to the DETAIL of each error.
    unset RUST_BACKTRACE
    if [ "$(id -u)" = 0 ]; then
        runuser -u "$SERVER_USER" -- "$@"
    else
        "$@"
    fi
}

# The children of a process, from /proc: a minimal system has no ps. A line there is
# "pid (name) state ppid ...", and the name may hold blanks and parentheses.
children() { cat /proc/[0-9]*/stat 2>/dev/null | sed -nE "s/^([0-9]+) \(.*\) [A-Za-z] $1 .*/\1/p"; }

descendants() {
    local pid
    for pid in $(children "$1"); do
        echo "$pid"
        descendants "$pid"
    done
}

alive() {
    local pid
    for pid in "$@"; do
        # A zombie waits for its parent only; it holds nothing any more.
        if grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$pid/status"; then return 0; fi
    done
    return 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root, and there is no sudo: $*"
    fi
}

# The folder of the private clusters. Not in the clone: that may lie where the server user cannot go.
cluster_base() { echo "${ALLSOURCE_HOME:-/var/tmp/allsource-$(id -un)}"; }

# What is costly to make and the same for every clone of the repository.
cache_dir() { echo "${XDG_CACHE_HOME:-$HOME/.cache}/allsource"; }

PGSPOT=0.9.4
pgspot_venv() { echo "$(cache_dir)/pgspot-$PGSPOT"; }

# The version of the extension is the version of the crate.
extension_version() { sed -n 's/^version = "\(.*\)"$/\1/p' "$ROOT/Cargo.toml" | head -n 1; }

# The SQL script that CREATE EXTENSION runs: the files of sql/ in the order of their numbers, with the coordinator's
# before the rights.
extension_sql() { LC_ALL=C bash -c 'cat "$0"/sql/[0-8]*.sql "$0"/sql/link/*.sql "$0"/sql/coordinator/*.sql "$0"/sql/9*.sql' "$ROOT"; }

# The same of the extension allsource_router.
router_sql() { LC_ALL=C bash -c 'cat "$0"/sql/{00_roles,router/0*,link/*,router/[1-9]*}.sql' "$ROOT"; }

# For all calls of cargo. It must be the same everywhere: pgrx is recompiled when it changes.
export_cargo_environment() {
    PG_CONFIG=$(find_pg_config)
    export PG_CONFIG PGRX_PG_CONFIG_PATH=$PG_CONFIG
}

# For calls of cargo with the feature rocksdb. A call without them compiles RocksDB itself.
export_rocksdb() {
    local environment
    environment=$("$ROOT/scripts/rocksdb.sh")
    eval "$environment"
}
