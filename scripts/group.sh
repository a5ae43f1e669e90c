#!/usr/bin/env bash
# A group of nodes that pg_auto_failover keeps alive: a primary and its standbys, all below one folder.
# monitor.sh has to be started first.
#
#   group.sh start BASE G [N [name=value ...]]   make group G with N nodes (2) if missing, start, wait until healthy
#   group.sh wait BASE G                         until it has a primary, all others follow, and all is settled
#   group.sh nodes BASE G                        a line for each: number, port, state, where it should be, healthy
#   group.sh primary BASE G                      the number of the node that is the primary
#   group.sh conninfo BASE G [DATABASE]          a connection string that finds the primary
#   group.sh switchover BASE G                   make a standby the primary, as planned; returns when it is
#   group.sh add-node BASE G N                   make node N, which follows
#   group.sh remove-node BASE G N
#   group.sh kill BASE G N                       SIGKILL to a node: server and keeper
#   group.sh kill-keeper BASE G N                SIGKILL to the keeper only; the server goes on
#   group.sh kill-server BASE G N                SIGKILL to its postmaster only; the keeper starts it again
#   group.sh freeze|thaw BASE G N                SIGSTOP, SIGCONT to all processes of a node
#   group.sh cut|join BASE G N                   cut a node off from the monitor and all nodes; needs network.sh
#   group.sh start-node|stop-node BASE G N
#   group.sh stop BASE G
#   group.sh remove BASE G
#
# Each group is a formation of its own: what pg_auto_failover calls a group is for Citus, and a formation
# of plain PostgreSQL has the group 0 only. ALLSOURCE_PG_WAIT_S (60) bounds each wait.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/autoctl.sh"

# A primary that reaches neither the monitor nor a standby stops itself after this time. It has to be less
# than what the monitor gives it: see monitor.sh.
NETWORK_PARTITION_TIMEOUT_S=3
NODES=2

usage() {
    sed -n '5,21s/^# *//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

port() { echo $((MONITOR_PORT + GROUP * 10 + $1)); }
data() { echo "$BASE/group$GROUP/node$1/data"; }
node_numbers() { monitor_sql "SELECT nodeport - $(port 0) FROM pgautofailover.node WHERE formationid = '$FORMATION' ORDER BY 1"; }

# Its settings: pg_auto_failover's own shared_preload_libraries, wal_level, shared_buffers and
# wal_keep_size do not suit. wal_retrieve_retry_interval (5 s) is also how often a server begins to apply a
# subscription, so that every move would take that long. wal_sender_timeout: a primary that is cut off believes that it has
# a standby as long as there is the walsender, and does not stop itself. It must see the standby once after it has lost
# the monitor, though, mostly after 2 or 3 seconds, or it never counts the time since. It acknowledges nothing in any case.
settings() {
    printf '%s\n' shared_preload_libraries=allsource wal_level=logical shared_buffers=128MB wal_keep_size=256MB \
        max_wal_senders=40 max_replication_slots=40 max_worker_processes=32 wal_retrieve_retry_interval=200ms \
        wal_sender_timeout=5s "allsource.node_id=$GROUP" "allsource.database=$DATABASE" "$@"
}

is_registered() {
    [ "$(monitor_sql "SELECT count(*) FROM pgautofailover.node WHERE formationid = '$FORMATION'
        AND nodeport = $(port "$1") AND reportedstate IN ('single', 'primary', 'catchingup', 'secondary')" 2>/dev/null)" = 1 ]
}

# Settled: since SINCE every node has reported that it is where the monitor wants it, and was found to answer;
# there is one primary; and with standbys, it waits for one of them.
is_healthy() {
    [ "$(monitor_sql "SELECT count(*) > 0 AND bool_and(reportedstate = goalstate AND health = 1 AND reportedpgisrunning
            AND reporttime > '$SINCE' AND healthchecktime > '$SINCE'
            AND reportedstate IN ('single', 'primary', 'secondary'))
            AND count(*) FILTER (WHERE reportedstate IN ('single', 'primary')) = 1
            AND (count(*) = 1 OR bool_or(reportedrepstate IN ('sync', 'quorum')))
        FROM pgautofailover.node WHERE formationid = '$FORMATION'" 2>/dev/null)" = t ]
}

# In the network of their own, if there is one, the services of a node run from here on.
enter_network() {
    [ -n "$NETWORK" ] || return 0
    "$ROOT/scripts/network.sh" node "$BASE" "$GROUP" "$1"
    NAMESPACE=$(namespace "$GROUP" "$1")
}

# The service, just started, may be writing the same file.
sets_timeout() {
    local name=timeout.network_partition_timeout
    {
        autoctl config set --pgdata "$1" $name $NETWORK_PARTITION_TIMEOUT_S && autoctl reload --pgdata "$1"
    } >/dev/null 2>&1 && [ "$(autoctl config get --pgdata "$1" $name 2>/dev/null)" = $NETWORK_PARTITION_TIMEOUT_S ]
}

add_node() {
    local data
    data=$(data "$1")
    as_server mkdir -p "$(dirname "$data")"
    enter_network "$1"
    autoctl_service "$(dirname "$data")/autoctl.log" create postgres --pgdata "$data" --pgctl "$BIN/pg_ctl" \
        --pgport "$(port "$1")" --hostname "$(host_name "$(node_address "$GROUP" "$1")")" \
        --listen "$(node_address "$GROUP" "$1")" --formation "$FORMATION" --name "group${GROUP}_node$1" \
        --monitor "$(monitor_uri_of_nodes)" --username postgres --dbname "$DATABASE" --skip-pg-hba --no-ssl \
        --maximum-backup-rate 1023M --run
    wait_until "node $1 of group $GROUP to be registered; its log is $(dirname "$data")/autoctl.log" is_registered "$1"
    wait_until "node $1 of group $GROUP to take its settings" sets_timeout "$data"
}

start_node() {
    local data
    data=$(data "$1")
    ! service_pid "$data" >/dev/null || return 0
    forget_stale "$data"
    enter_network "$1"
    autoctl_service "$(dirname "$data")/autoctl.log" run --pgdata "$data"
}

start() {
    local n nodes=${1:-$NODES}
    shift $(($# > 0))
    if [ ! -d "$BASE/group$GROUP" ]; then
        mapfile -t all < <(settings "$@")
        make_data "$BASE/group$GROUP/node1" "${all[@]}"
        autoctl create formation --monitor "$(monitor_uri)" --formation "$FORMATION" --kind pgsql --dbname "$DATABASE" >/dev/null 2>&1 ||
            die "the monitor did not take the formation $FORMATION"
        for ((n = 1; n <= nodes; n++)); do add_node "$n"; done
    else
        for n in $(node_numbers); do start_node "$n"; done
    fi
    wait_healthy
}

wait_healthy() {
    SINCE=$(monitor_sql 'SELECT now()')
    wait_until "group $GROUP to be healthy" is_healthy
}

nodes() {
    monitor_sql "SELECT format('%s %s %s %s %s', nodeport - $(port 0), nodeport, reportedstate, goalstate, health = 1)
        FROM pgautofailover.node WHERE formationid = '$FORMATION' ORDER BY nodeport"
}

primary() {
    monitor_sql "SELECT nodeport - $(port 0) FROM pgautofailover.node WHERE formationid = '$FORMATION'
        AND goalstate IN ('single', 'wait_primary', 'primary', 'join_primary', 'apply_settings')"
}

conninfo() {
    monitor_sql "SELECT format('host=%s port=%s dbname=%s target_session_attrs=read-write connect_timeout=2',
        string_agg('$RUN', ',' ORDER BY nodeport), string_agg(nodeport::text, ',' ORDER BY nodeport), '${1:-$DATABASE}')
        FROM pgautofailover.node WHERE formationid = '$FORMATION'"
}

# The server that takes writes; where a switchover is under way there may be none.
writable() {
    monitor_sql "SELECT nodeport - $(port 0) FROM pgautofailover.node WHERE formationid = '$FORMATION'
        AND reportedstate = goalstate AND goalstate IN ('single', 'wait_primary', 'primary', 'join_primary')"
}

is_other() {
    local now
    now=$(writable 2>/dev/null) && [ -n "$now" ] && [ "$now" != "$1" ]
}

# Returns when another node takes writes; the group is healthy some seconds later.
switchover() {
    local before
    before=$(primary)
    monitor_sql "SELECT pgautofailover.perform_failover('$FORMATION', 0)" >/dev/null
    wait_until "another primary of group $GROUP" is_other "$before"
    echo "node $(writable) of group $GROUP is the primary; it was node $before"
}

remove_node() {
    enter_network "$1"
    autoctl drop node --pgdata "$(data "$1")" --destroy --force >/dev/null 2>&1 || true
    stop_service "$(data "$1")" QUIT
    rm -rf "$BASE/group$GROUP/node$1"
}

kill_server() {
    local pid
    pid=$(server_pid "$(data "$1")") || die "no server runs in $(data "$1")"
    kill -KILL "$pid"
}

stop_all() {
    local dir
    for dir in "$BASE/group$GROUP"/node*/data; do stop_service "$dir" "$1"; done
}

remove() {
    local dir
    [ -d "$BASE/group$GROUP" ] || return 0
    for dir in "$BASE/group$GROUP"/node*/data; do end_service "$dir"; done
    monitor_sql "SELECT pgautofailover.remove_node(nodeid::int, true) FROM pgautofailover.node
        WHERE formationid = '$FORMATION'" >/dev/null 2>&1 || true
    monitor_sql "SELECT pgautofailover.drop_formation('$FORMATION')" >/dev/null 2>&1 || true
    "$ROOT/scripts/network.sh" remove "$BASE" "$GROUP"
    rm -rf "$BASE/group$GROUP" "$BASE/autoctl/"{config,data,run}"/pg_autoctl$BASE/group$GROUP"
}

[ $# -ge 3 ] || usage
COMMAND=$1
set_base "$2"
GROUP=$3
shift 3
case $GROUP in *[!0-9]*) usage ;; esac
FORMATION=group$GROUP

case $COMMAND in
    start) start "$@" ;;
    wait) wait_healthy ;;
    nodes) nodes ;;
    primary) primary ;;
    conninfo) conninfo "$@" ;;
    switchover) switchover ;;
    add-node) add_node "$1" ;;
    remove-node) remove_node "$1" ;;
    start-node) start_node "$1" ;;
    stop-node) stop_service "$(data "$1")" TERM ;;
    kill) kill_service "$(data "$1")" ;;
    kill-keeper) kill_keeper "$(data "$1")" ;;
    kill-server) kill_server "$1" ;;
    freeze) signal_service STOP "$(data "$1")" ;;
    thaw) signal_service CONT "$(data "$1")" ;;
    cut | join) "$ROOT/scripts/network.sh" "$COMMAND" "$BASE" "$GROUP" "$1" ;;
    stop) stop_all TERM ;;
    remove) remove ;;
    *) usage ;;
esac
