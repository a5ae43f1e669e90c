#!/usr/bin/env bash
# A whole cluster on this machine, to look at: cluster-demo.sh up|psql|down
# The extension must be installed already ('make cluster-up' does it).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PG_CONFIG=$(find_pg_config)
export PG_CONFIG
BASE=$(cluster_base)/groups

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

case ${1:-} in
    up) up ;;
    psql)
        groups status >/dev/null || die "there is no cluster that runs: 'make cluster-up' starts it"
        groups psql
        ;;
    down) groups remove ;;
    *) die "usage: cluster-demo.sh up|psql|down" ;;
esac
