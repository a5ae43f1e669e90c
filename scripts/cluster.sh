#!/usr/bin/env bash
# A private PostgreSQL cluster in a folder: what the demo, the tests and the benchmarks run on.
#
#   cluster.sh start DIR [name=value ...]     make it if missing, write the settings, start, wait until ready
#   cluster.sh stop DIR [fast|immediate]
#   cluster.sh kill DIR                       SIGKILL to the postmaster; waits until nothing of it is left
#   cluster.sh restart DIR [name=value ...]
#   cluster.sh status DIR                     exit status 0 while it runs
#   cluster.sh env DIR                        PGHOST=, PGPORT=, PGUSER= lines, for eval
#   cluster.sh remove DIR                     stop it and delete DIR
#
# DIR holds data/ (the data directory), run/ (the socket) and server.log. It listens on its socket
# only, which nobody but the server's user (and root) can reach. Settings given replace all earlier
# ones; without any, the earlier ones stay; a running server takes them at its next restart.
# shared_preload_libraries is 'allsource' unless given. As root everything of the server runs as the
# user postgres; otherwise as the caller.
# ALLSOURCE_PG_WAIT_S (60) bounds each wait.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SOCKET_DIR_BYTES_MAX=90 # a socket's path has 107 bytes, of which /.s.PGSQL.5432 takes 14
WAIT_S=${ALLSOURCE_PG_WAIT_S:-60}
KILL_GRACE_S=2
PORT=5432 # only the socket's name: no TCP port is opened

usage() {
    sed -n '3,10s/^# *//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

# The process of this cluster, if it runs. A postmaster works in its data directory; a file left
# over from a crash may by now name someone else's process.
postmaster_pid() {
    local pid
    pid=$(sed -n 1p "$DATA/postmaster.pid" 2>/dev/null) || return 1
    [ "$(readlink "/proc/$pid/cwd")" = "$DATA" ] && echo "$pid"
}

is_running() { postmaster_pid >/dev/null; }

# The server user must be able to walk down to DIR, and DIR must be ours: in a folder that everybody
# may write to, someone else could have put it there.
make_dir() {
    id "$SERVER_USER" >/dev/null 2>&1 || die "there is no user '$SERVER_USER' to run the server as: run 'make deps'"
    [ -d "$DIR" ] || (umask 022 && mkdir -p "$DIR")
    case " root $(id -un) $SERVER_USER " in
        *" $(stat -c %U "$(dirname "$DIR")") "*) ;;
        *) die "$(dirname "$DIR") belongs to somebody else: set ALLSOURCE_HOME to a folder of your own" ;;
    esac
    if [ ! -e "$DIR/data" ]; then
        [ -z "$(ls -A "$DIR")" ] || die "$DIR is not empty and holds no cluster: give another folder"
        [ "$(id -u)" != 0 ] || chown "$SERVER_USER:" "$DIR"
    fi
    as_server test -w "$DIR" ||
        die "the user '$SERVER_USER' cannot write to $DIR: set ALLSOURCE_HOME to a folder that it can reach"
    # Whoever reaches the socket is superuser (trust), so others are kept out of it.
    as_server chmod 700 "$DIR"
}

init() {
    as_server "$BIN/initdb" -D "$DATA" -E UTF8 --locale=C.UTF-8 --auth=trust -U postgres >"$1" 2>&1 || {
        cat "$1" >&2
        die "initdb failed"
    }
    as_server sh -c "echo \"include 'allsource.conf'\" >>'$DATA/postgresql.conf'"
    local run=$DIR/run
    if [ ${#run} -le $SOCKET_DIR_BYTES_MAX ]; then
        as_server mkdir -m 700 "$run"
    else
        run=$(as_server mktemp -d /tmp/allsource.XXXXXX)
    fi
    as_server sh -c "echo '$run' >'$DIR/socket_dir'"
}

socket_dir() { cat "$DIR/socket_dir" 2>/dev/null || die "there is no cluster in $DIR"; }

write_settings() {
    local setting name value
    {
        echo "listen_addresses = ''"
        echo "port = $PORT"
        echo "unix_socket_directories = '$(socket_dir)'"
        echo "shared_preload_libraries = 'allsource'"
        for setting in "$@"; do
            name=${setting%%=*} value=${setting#*=}
            [ "$name" != "$setting" ] || die "a setting looks like name=value, not '$setting'"
            echo "$name = '${value//\'/\'\'}'" # the last one of a name counts
        done
    } | as_server sh -c "cat >'$DATA/allsource.conf'"
}

start() {
    make_dir
    local log
    log=$(mktemp)
    [ -e "$DATA/PG_VERSION" ] || init "$log"
    rm -f "$log"
    if [ $# -gt 0 ] || [ ! -e "$DATA/allsource.conf" ]; then
        write_settings "$@"
    fi
    ! is_running || return 0
    # A restart of the machine may have cleared /tmp.
    as_server mkdir -p -m 700 "$(socket_dir)"
    as_server "$BIN/pg_ctl" -D "$DATA" -l "$DIR/server.log" -w -t "$WAIT_S" -s start || {
        tail -n 20 "$DIR/server.log" >&2
        die "the server in $DIR did not start; its log is $DIR/server.log"
    }
}

stop() {
    is_running || return 0
    as_server "$BIN/pg_ctl" -D "$DATA" -m "${1:-fast}" -w -t "$WAIT_S" -s stop
}

# How many processes have the segment attached by which PostgreSQL recognizes a running cluster.
attached() { awk -v id="$1" '$2 == id { n = $7 } END { print n + 0 }' /proc/sysvipc/shm; }

# What is left of a killed server: living processes, or such as still hold its shared memory.
is_left() { alive "$@" || [ "$(attached "$SHM_ID")" != 0 ]; }

kill_hard() {
    local pid pids deadline
    pid=$(postmaster_pid) || die "no server runs in $DIR"
    SHM_ID=$(sed -n '7s/.* //p' "$DATA/postmaster.pid")
    kill -STOP "$pid" # or it could have one more child than we have counted
    mapfile -t pids < <(children "$pid")
    kill -KILL "$pid"
    # Who waits for anything notices that the postmaster is gone; who is busy computing does not.
    deadline=$((SECONDS + KILL_GRACE_S))
    while is_left "$pid" "${pids[@]}" && [ $SECONDS -le $deadline ]; do sleep 0.02; done
    kill -KILL "${pids[@]}" 2>/dev/null || true
    deadline=$((SECONDS + WAIT_S))
    while is_left "$pid" "${pids[@]}"; do
        [ $SECONDS -le $deadline ] || die "the killed server in $DIR is still there after $WAIT_S s"
        sleep 0.02
    done
    # A zombie would pass for a running server at the next start. Where nobody reaps it soon, as in
    # a container without a true init, the lock files have to go instead.
    [ ! -e "/proc/$pid" ] || sleep 0.2
    [ ! -e "/proc/$pid" ] || rm -f "$DATA/postmaster.pid" "$(socket_dir)/.s.PGSQL.$PORT.lock"
}

remove() {
    [ -d "$DIR" ] || return 0
    [ -e "$DIR/socket_dir" ] || [ -z "$(ls -A "$DIR")" ] || die "$DIR holds no cluster of this script; not deleted"
    stop immediate
    if [ -e "$DIR/socket_dir" ]; then
        local run
        run=$(socket_dir)
        case $run in /tmp/allsource.*) rm -rf "$run" ;; esac
    fi
    rm -rf "$DIR"
}

[ $# -ge 2 ] || usage
COMMAND=$1
DIR=$(readlink -m "$2")
shift 2
case $DIR in *[!A-Za-z0-9/._+-]*) die "the folder's name must be plain (letters, digits, / . _ + -): $DIR" ;; esac
DATA=$DIR/data
SERVER_USER=$(server_user)
BIN=$("$(find_pg_config)" --bindir)
[ -x "$BIN/pg_ctl" ] || die "there is no pg_ctl in $BIN: run 'make deps'"
cd / # where every user may be

case $COMMAND in
    start) start "$@" ;;
    stop) stop "$@" ;;
    kill) kill_hard ;;
    restart) stop fast && start "$@" ;;
    status) if is_running; then echo "running in $DIR"; else echo "not running in $DIR" && exit 3; fi ;;
    env)
        RUN=$(socket_dir)
        printf 'PGHOST=%s\nPGPORT=%s\nPGUSER=postgres\n' "$RUN" "$PORT"
        ;;
    remove) remove ;;
    *) usage ;;
esac
