#!/usr/bin/env bash
# A whole cluster below one folder: the monitor, groups of two nodes, the coordinator (a database of the first
# group, so that it fails over with it), and a router (a server of its own). See monitor.sh and group.sh.
#
#   groups.sh start BASE [G ... [name=value ...]]  make what is missing of it (groups 1 and 2), start, wait until it serves
#   groups.sh add BASE G                           make one more group, which owns nothing yet
#   groups.sh spread BASE                          let the coordinator give each group its share of the partitions
#   groups.sh status BASE                          exit status 0 while the router runs
#   groups.sh env BASE                             PGHOST, PGPORT, PGUSER, PGDATABASE of the router
#   groups.sh psql BASE [...]                      psql on the router
#   groups.sh coordinator BASE [...]               psql on the coordinator
#   groups.sh stop BASE
#   groups.sh remove BASE                          stop it, and delete its folder, whatever state it is in
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/autoctl.sh"

COORDINATOR=coordinator
ROUTER=router
FIRST=1 # the group with the coordinator
NODES=2
LANES=4

usage() {
    sed -n '5,13s/^# *//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

monitor() { "$ROOT/scripts/monitor.sh" "$1" "$BASE" "${@:2}"; }
group() { "$ROOT/scripts/group.sh" "$1" "$BASE" "${@:2}"; }
router() { "$ROOT/scripts/cluster.sh" "$1" "$BASE/router" "${@:2}"; }

# The groups that there are, by their folders.
group_numbers() { find "$BASE" -maxdepth 1 -name 'group[0-9]*' -printf '%f\n' 2>/dev/null | sed 's/^group//' | sort -n; }

# psql_at CONNINFO [...]: stops at the first error.
psql_at() { as_server env -i LANG=C.UTF-8 "TERM=${TERM:-dumb}" PGUSER=postgres "$BIN/psql" -X -v ON_ERROR_STOP=1 -d "$@"; }
coordinator() { psql_at "$(group conninfo "$FIRST" $COORDINATOR)" "$@"; }
on_router() { psql_at "host=$BASE/router/run dbname=$ROUTER" "$@"; }

at_once() {
    local pid pids=() failed=0
    for n in "${@:2}"; do
        "$1" "$n" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    return $failed
}

# Moves whose session or server has ended are carried on by a process of whoever has the coordinator.
start_group() {
    local own=()
    [ "$1" != $FIRST ] || own=("allsource.coordinator_database=$COORDINATOR")
    group start "$1" $NODES "${SETTINGS[@]}" "${own[@]}"
}

# A store in the group, and the group in the map.
join() {
    psql_at "$(group conninfo "$1")" -q -c 'SET client_min_messages = warning' -c 'CREATE EXTENSION IF NOT EXISTS allsource' \
        -c 'ALTER ROLE allsource_replication LOGIN REPLICATION'
    coordinator -q -c "CALL allsource.es_group_add($1, '$(group conninfo "$1")')"
}

make_coordinator() {
    local conninfo
    conninfo=$(group conninfo "$FIRST")
    if [ "$(psql_at "$conninfo" -Atc "SELECT count(*) FROM pg_database WHERE datname = '$COORDINATOR'")" = 0 ]; then
        psql_at "$conninfo" -qc "CREATE DATABASE $COORDINATOR"
    fi
    coordinator -q -c 'SET client_min_messages = warning' -c 'CREATE EXTENSION IF NOT EXISTS allsource'
}

make_router() {
    # Nobody is to wait long for a server that does not answer: here the answers take no second.
    router start allsource.workers=0 max_connections=200 allsource.route_timeout=2s
    [ -e "$BASE/router/made" ] || {
        psql_at "host=$BASE/router/run dbname=postgres" -q -c "SET client_min_messages = warning" -c "DROP DATABASE IF EXISTS $ROUTER" -c "CREATE DATABASE $ROUTER"
        on_router -q -c "CREATE EXTENSION allsource_router" \
            -c "INSERT INTO allsource.router_coordinator (conninfo) VALUES ('$(group conninfo "$FIRST" $COORDINATOR)')" \
            -c "ALTER DATABASE $ROUTER SET search_path = allsource, public"
        as_server touch "$BASE/router/made"
    }
    on_router -Atqc 'SELECT allsource.es_router_refresh()' >/dev/null
}

start() {
    local wanted=() n
    while [ $# -gt 0 ] && [[ $1 != *=* ]]; do
        wanted+=("$1")
        shift
    done
    [ ${#wanted[@]} -gt 0 ] || wanted=("$FIRST" 2)
    make_base
    # Groups that are added later have the same settings.
    [ -e "$BASE/settings" ] || printf '%s\n' allsource.workers=1 "$@" | as_server tee "$BASE/settings" >/dev/null
    read_settings
    monitor start
    mapfile -t all < <({ printf '%s\n' "${wanted[@]}"; group_numbers; } | sort -nu)
    at_once start_group "${all[@]}" || die "not all groups could be started; remove the cluster and make it anew"
    make_coordinator
    for n in "${all[@]}"; do join "$n"; done
    make_router
}

read_settings() { mapfile -t SETTINGS < <(cat "$BASE/settings" 2>/dev/null); }

add() {
    read_settings
    start_group "$1"
    join "$1"
}

# What es_rebalance does, with some moves at a time.
spread() {
    local moves
    mapfile -t moves < <(coordinator -Atc "SELECT format('CALL allsource.es_move_partition(%s, %s)', partition_id, target_id)
        FROM allsource.es_rebalance_plan()")
    # shellcheck disable=SC2046 # numbers
    [ ${#moves[@]} = 0 ] || at_once move $(seq 0 $((LANES - 1)))
    # It would learn of them one by one, when it calls a former owner.
    on_router -Atqc 'SELECT allsource.es_router_refresh()' >/dev/null
}
move() {
    local n
    for ((n = $1; n < ${#moves[@]}; n += LANES)); do coordinator -q -c "${moves[n]}"; done
}

stop() {
    router stop
    # shellcheck disable=SC2046 # numbers
    at_once stop_group $(group_numbers)
    monitor stop
}
stop_group() { group stop "$1"; }
remove_group() { group remove "$1"; }

remove() {
    [ -d "$BASE" ] || return 0
    router remove
    # shellcheck disable=SC2046 # numbers
    at_once remove_group $(group_numbers)
    rm -f "$BASE/settings"
    monitor remove
    [ ! -e "$BASE" ] || die "$BASE holds something that is not of a cluster; not deleted"
}

[ $# -ge 2 ] || usage
COMMAND=$1
set_base "$2"
shift 2

case $COMMAND in
    start) start "$@" ;;
    add) add "$1" ;;
    spread) spread ;;
    status) router status ;;
    env)
        router env
        echo "PGDATABASE=$ROUTER"
        ;;
    psql) on_router "$@" ;;
    coordinator) coordinator "$@" ;;
    stop) stop ;;
    remove) remove ;;
    *) usage ;;
esac
