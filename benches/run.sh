#!/usr/bin/env bash
# Measures the installed extension beside its baselines, on a private server made for the run.
#
#   run.sh [--peers] [flags of the harness]     'run.sh --help' lists them
#
# --peers measures UmaDB too, which is compiled for that (some minutes, once).
# The server's folder is $ALLSOURCE_HOME/bench; it is removed before and after.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

MESSAGE_DB_VERSION=1.3.1
MESSAGE_DB_DATABASE=bench_messagedb # as in load/src/messagedb.rs
SETTINGS=(shared_buffers=2GB max_wal_size=8GB checkpoint_timeout=15min max_connections=200)

TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
RESULTS=$ROOT/target/bench
CLUSTER=$(cluster_base)/bench
export_cargo_environment
BIN=$("$PG_CONFIG" --bindir)

build() {
    say "building the $1"
    CARGO_TARGET_DIR=$TARGET cargo build --quiet --release --locked --manifest-path "$ROOT/benches/$2/Cargo.toml"
}

# message-db is fetched, never kept in the repository. Without it the rest can still be measured.
fetch_message_db() {
    MESSAGE_DB=$(cache_dir)/message-db-$MESSAGE_DB_VERSION
    [ ! -e "$MESSAGE_DB/node_modules/@eventide/message-db/database/install.sh" ] || return 0
    command -v npm >/dev/null || { say "npm is missing, so message-db is not measured"; return 1; }
    say "fetching message-db $MESSAGE_DB_VERSION"
    npm install --silent --no-audit --no-fund --prefix "$MESSAGE_DB" "@eventide/message-db@$MESSAGE_DB_VERSION" ||
        { say "npm could not fetch message-db, so it is not measured"; return 1; }
}

install_message_db() {
    fetch_message_db || return 0
    local log=$RESULTS/message-db.log
    (
        cd "$MESSAGE_DB/node_modules/@eventide/message-db/database"
        PATH=$BIN:$PATH DATABASE_NAME=$MESSAGE_DB_DATABASE bash ./install.sh
    ) >"$log" 2>&1 || die "message-db did not install; see $log"
}

start_server() {
    local preload=allsource setting
    # The baselines alone can be measured where the extension is not installed.
    for setting in "$@"; do [ "$setting" != --baselines ] || preload=; done
    say "starting a private server in $CLUSTER"
    "$ROOT/scripts/cluster.sh" remove "$CLUSTER"
    trap '"$ROOT/scripts/cluster.sh" remove "$CLUSTER"' EXIT
    "$ROOT/scripts/cluster.sh" start "$CLUSTER" "${SETTINGS[@]}" "shared_preload_libraries=$preload"
    set -a
    eval "$("$ROOT/scripts/cluster.sh" env "$CLUSTER")"
    set +a
}

FLAGS=(--out "$RESULTS/results.json")
mkdir -p "$RESULTS"
build "load harness" load
case " $* " in *" --help "* | *" -h "*) exec "$TARGET/release/allsource-bench" --help ;; esac
if [ "${1:-}" = --peers ]; then
    shift
    build "peers (this takes minutes the first time)" peers
    say "measuring UmaDB"
    PEER_FLAGS=()
    case " $* " in *" --quick "*) PEER_FLAGS=(--seconds 0.5 --rounds 1) ;; esac
    "$TARGET/release/allsource-bench-peers" "${PEER_FLAGS[@]}" --out "$RESULTS/peers.json"
    FLAGS+=(--peers "$RESULTS/peers.json")
fi
start_server "$@"
install_message_db
say "measuring; this takes some minutes"
"$TARGET/release/allsource-bench" "${FLAGS[@]}" "$@"
