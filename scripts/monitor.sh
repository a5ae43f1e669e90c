#!/usr/bin/env bash
# The monitor of pg_auto_failover for the groups below one folder; see group.sh.
#
#   monitor.sh start BASE      make it if missing, start, wait until it answers
#   monitor.sh stop BASE
#   monitor.sh kill BASE       SIGKILL to it and to its server
#   monitor.sh status BASE     exit status 0 while it runs
#   monitor.sh psql BASE [...] psql in its database
#   monitor.sh remove BASE     stop it, and delete its folder; the groups have to be removed before
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/autoctl.sh"

# A primary is replaced UNHEALTHY_MS after its last report at the earliest, if a health check failed too,
# and then DEMOTE_MS later: the time for one that is cut off to stop itself. group.sh says when that
# does so, which must be earlier.
SETTINGS=(
    shared_buffers=16MB
    pgautofailover.health_check_period=1000
    pgautofailover.health_check_timeout=1000
    pgautofailover.health_check_max_retries=2
    pgautofailover.health_check_retry_delay=500
    pgautofailover.node_considered_unhealthy_timeout=3000
    pgautofailover.primary_demote_timeout=5000
    pgautofailover.startup_grace_period=5000
)

usage() {
    sed -n '4,9s/^# *//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

answers() { [ "$(monitor_sql 'SELECT count(*) >= 0 FROM pgautofailover.formation' 2>/dev/null)" = t ]; }

start() {
    make_base
    local log=$DIR/autoctl.log
    if [ ! -e "$DATA/PG_VERSION" ]; then
        make_data "$DIR" "${SETTINGS[@]}"
        autoctl create monitor --pgdata "$DATA" --pgctl "$BIN/pg_ctl" --pgport "$MONITOR_PORT" --hostname "$(host_name "$(monitor_address)")" \
            --skip-pg-hba --no-ssl >"$BASE/create.log" 2>&1 || {
            cat "$BASE/create.log" >&2
            end_service "$DATA"
            rm -rf "$DIR"
            die "the monitor could not be made"
        }
        autoctl config set --pgdata "$DATA" postgresql.listen_addresses "$(monitor_address)" >/dev/null 2>&1 || true
    fi
    service_pid "$DATA" >/dev/null || {
        forget_stale "$DATA"
        autoctl_service "$log" run --pgdata "$DATA"
    }
    wait_until "the monitor to answer; its log is $log" answers
}

remove() {
    [ -d "$DIR" ] || return 0
    end_service "$DATA"
    "$ROOT/scripts/network.sh" remove "$BASE"
    rm -rf "$DIR" "$BASE/autoctl" "$RUN" "$BASE/create.log"
    rmdir "$BASE" 2>/dev/null || true
}

[ $# -ge 2 ] || usage
COMMAND=$1
set_base "$2"
shift 2
DIR=$BASE/monitor
DATA=$DIR/data

case $COMMAND in
    start) start ;;
    stop) stop_service "$DATA" TERM ;;
    kill) kill_service "$DATA" ;;
    status) if service_pid "$DATA" >/dev/null; then echo "running in $DIR"; else echo "not running in $DIR" && exit 3; fi ;;
    psql) as_server "$BIN/psql" -h "$RUN" -p "$MONITOR_PORT" -U postgres pg_auto_failover "$@" ;;
    remove) remove ;;
    *) usage ;;
esac
