#!/usr/bin/env bash
# A whole cluster on this machine, to look at: cluster-demo.sh demo|up|psql|down
# demo loads this machine's package history through the router, and lets an application work while a group is added,
# partitions move and a primary is killed. The extension must be installed already ('make cluster-demo' does it).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/history.sh"

PG_CONFIG=$(find_pg_config)
export PG_CONFIG
BASE=$(cluster_base)/groups

DEMO_BASE=$(cluster_base)/groups-demo

groups() { "$ROOT/scripts/groups.sh" "$1" "$BASE" "${@:2}"; }

up() {
    say "starting a monitor, two groups of two nodes, a coordinator and a router in $BASE"
    groups start || die "the cluster could not be started: 'make cluster-down' removes it"
    groups spread
    # shellcheck disable=SC2046 # lines of name=value without blanks
    export $(groups env)
    cat <<END

Go on with 'make cluster-psql', and there for instance:

    SELECT es_append('cart-1', 'item added', '{"item": "tea"}');
    SELECT * FROM es_read('cart-1');
    SELECT group_id, count(*) AS partitions FROM routes GROUP BY group_id;
    SELECT name, detail FROM es_health() WHERE NOT ok;

The coordinator is reached by: scripts/groups.sh coordinator $BASE
A node is killed, frozen or replaced by: scripts/group.sh kill $BASE 1 1, and others; see there.
It runs until 'make cluster-down', which removes it.
END
}

demo() {
    local status=0
    BASE=$DEMO_BASE
    groups remove # what a demo that was interrupted has left
    # Compiled before anything runs.
    say "compiling the application"
    cargo build --quiet --locked --manifest-path "$ROOT/tests/e2e/Cargo.toml" --bin cluster-demo
    say "starting a monitor, two groups of two nodes, a coordinator and a router in $BASE"
    trap 'groups remove' EXIT
    groups start
    groups spread
    find_history
    # shellcheck disable=SC2046 # lines of name=value without blanks
    export $(groups env)
    # Not as the servers' user, who may not be able to read the clone.
    history_lines | PAGER='' "$("$PG_CONFIG" --bindir)/psql" -Xq -v ON_ERROR_STOP=1 -v source="$SOURCE" -v style="$STYLE" \
        -f "$ROOT/scripts/cluster-demo.sql"
    cargo run --quiet --locked --manifest-path "$ROOT/tests/e2e/Cargo.toml" --bin cluster-demo -- "$BASE" || status=$?
    say "stopping everything"
    return $status
}

case ${1:-} in
    demo) demo ;;
    up) up ;;
    psql)
        groups status >/dev/null || die "there is no cluster that runs: 'make cluster-up' starts it"
        groups psql
        ;;
    down) groups remove ;;
    *) die "usage: cluster-demo.sh demo|up|psql|down" ;;
esac
