#!/usr/bin/env bash
# Measures the installed extension beside its baselines, on a private server made for the run.
#
#   run.sh [--peers] [--full] [--set NAME=VALUE]... [flags of the harness]     'run.sh --help' lists them
#
# --peers measures UmaDB too, which is compiled for that (some minutes, once).
# --full measures hot partitions at the size that their bars are about, which takes half an hour.
# --set gives the server a setting, such as allsource.workers=2.
# The server's folder is $ALLSOURCE_HOME/bench; it is removed before and after.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

MESSAGE_DB_VERSION=1.3.1
MESSAGE_DB_DATABASE=bench_messagedb # as in load/src/data/mod.rs
STORE_DATABASE=bench_store          # as in load/src/data/mod.rs
SETTINGS=(shared_buffers=2GB max_wal_size=8GB checkpoint_timeout=15min max_connections=200)
# Hot partitions are for stores whose indexes have no room in memory. Passes are short there, because a
# round is.
HOT_SETTINGS=(shared_buffers=512MB allsource.settle_interval=2s)
HOT_FLAGS=(--streams 200000 --hot-events 500000 --import-events 200000 --rounds 3 --seconds 1)
FULL_FLAGS=(--streams 2000000 --hot-events 10000000 --seconds 3 --rounds 2)
FULL_SETTINGS=(shared_buffers=512MB)
# The baselines alone can be measured where the extension is not installed.
PRELOAD=(shared_preload_libraries=allsource "allsource.database=$STORE_DATABASE")

TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
RESULTS=$ROOT/target/bench
CLUSTER=$(cluster_base)/bench
ROUTER_CLUSTER=$CLUSTER-router
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

remove_servers() {
    "$ROOT/scripts/cluster.sh" remove "$CLUSTER"
    "$ROOT/scripts/cluster.sh" remove "$ROUTER_CLUSTER"
}

start_server() {
    say "starting a private server in $CLUSTER"
    "$ROOT/scripts/cluster.sh" remove "$CLUSTER"
    trap remove_servers EXIT
    "$ROOT/scripts/cluster.sh" start "$CLUSTER" "${SETTINGS[@]}" "${PRELOAD[@]}" "${SET[@]}"
    set -a
    eval "$("$ROOT/scripts/cluster.sh" env "$CLUSTER")"
    set +a
}

# The ring alone needs no server. Its bench prints a table, and in the last line the same for us.
measure_ring() {
    say "measuring the ring"
    (cd "$ROOT" && CARGO_TARGET_DIR=$TARGET cargo bench --quiet --locked --no-default-features --bench ring) |
        tee /dev/stderr | tail -n 1 >"$RESULTS/ring.json"
    FLAGS+=(--ring "$RESULTS/ring.json")
}

measure_peers() {
    build "peers (this takes minutes the first time)" peers
    say "measuring UmaDB"
    "$TARGET/release/allsource-bench-peers" "${PEER_FLAGS[@]}" --out "$RESULTS/peers.json"
    FLAGS+=(--peers "$RESULTS/peers.json")
}

# Without RocksDB no partition can be hot.
has_rocksdb() { grep -q N7rocksdb "$("$PG_CONFIG" --pkglibdir)/allsource.so"; }

harness() {
    say "measuring; this takes some minutes"
    "$TARGET/release/allsource-bench" "${FLAGS[@]}" "$@"
}

# On a server of its own, with what the command line says last.
measure_hot() {
    has_rocksdb || {
        say "this build has no RocksDB, so hot partitions are not measured"
        return 0
    }
    SETTINGS+=("${HOT_SETTINGS[@]}")
    start_server
    FLAGS=("${HOT_FLAGS[@]}" "${FLAGS[@]}")
    harness --only "$HOT" --out "$RESULTS/hot.json"
}

# With a router on a second server, which has the library preloaded and no workers.
measure_routed() {
    start_server
    "$ROOT/scripts/cluster.sh" remove "$ROUTER_CLUSTER"
    "$ROOT/scripts/cluster.sh" start "$ROUTER_CLUSTER" "${SETTINGS[@]}" allsource.workers=0
    ROUTER_HOST=$("$ROOT/scripts/cluster.sh" env "$ROUTER_CLUSTER" | sed -n 's/^PGHOST=//p')
    export ROUTER_HOST
    harness --only "$ROUTED" --out "$RESULTS/routed.json"
}

# only GROUPS: of what --only names, ONLY is what is measured on the common server; HOT and ROUTED are not.
only() {
    local part parts
    IFS=, read -ra parts <<<"$1"
    ONLY='' HOT='' ROUTED='' RING=''
    for part in "${parts[@]}"; do
        # As the harness understands it.
        [[ ring != *"$part"* ]] || RING=yes
        case $part in hot*) HOT+=${HOT:+,}$part ;; routed*) ROUTED+=${ROUTED:+,}$part ;; *) ONLY+=${ONLY:+,}$part ;; esac
    done
}

FLAGS=(--out "$RESULTS/results.json")
SET=() PEER_FLAGS=() PEERS='' RING=yes HELP='' ONLY=all HOT=hot- ROUTED=routed-
while [ $# -gt 0 ]; do
    case $1 in
        --peers) PEERS=yes ;;
        --full) HOT_FLAGS+=("${FULL_FLAGS[@]}") HOT_SETTINGS=("${FULL_SETTINGS[@]}") ;;
        --only)
            only "${2:?--only needs groups}"
            [ "$ONLY" = '' ] || FLAGS+=(--only "$ONLY")
            shift
            ;;
        --set)
            SET+=("${2:?--set needs NAME=VALUE}")
            shift
            ;;
        *)
            FLAGS+=("$1")
            case $1 in
                --help | -h) HELP=yes ;;
                --baselines) PRELOAD=(shared_preload_libraries=) RING='' HOT='' ROUTED='' ;;
                --quick) PEER_FLAGS=(--seconds 0.5 --rounds 1) ;;
            esac
            ;;
    esac
    shift
done
mkdir -p "$RESULTS"
build "load harness" load
[ -z "$HELP" ] || exec "$TARGET/release/allsource-bench" --help
[ -z "$PEERS" ] || measure_peers
[ -z "$RING" ] || measure_ring
if [ -n "$ONLY" ]; then
    start_server
    install_message_db
    harness
fi
[ -z "$ROUTED" ] || measure_routed
[ -z "$HOT" ] || measure_hot
