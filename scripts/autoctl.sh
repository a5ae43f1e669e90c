# What monitor.sh and group.sh share: how pg_autoctl is run below one folder; sourced, never run.
# shellcheck shell=bash
# shellcheck disable=SC2034 # who sources this uses the variables
#
# BASE holds run/ (the sockets of all servers), autoctl/ (what pg_autoctl keeps outside of the data
# directories), monitor/ and group<G>/node<N>/, each with data/ and autoctl.log.
#
# The servers know each other by the folder of their sockets, which only the servers' user can enter.
# A group's port numbers are names of sockets. pg_autoctl insists on TCP too; it gets an address of
# 127.0.0.0/8 that is made from BASE, so that clusters are not in each other's way. pg_hba.conf has no line for it, so nobody gets in there.

WAIT_S=${ALLSOURCE_PG_WAIT_S:-60}
MONITOR_PORT=7000
DATABASE=${ALLSOURCE_GROUP_DATABASE:-postgres}
SOCKET_DIR_BYTES_MAX=90

set_base() {
    BASE=$(readlink -m "$1")
    case $BASE in *[!A-Za-z0-9/._+-]*) die "the folder's name must be plain (letters, digits, / . _ + -): $BASE" ;; esac
    RUN=$BASE/run
    [ ${#RUN} -le $SOCKET_DIR_BYTES_MAX ] || die "the folder's name is too long for sockets in it: $BASE"
    SERVER_USER=$(server_user)
    BIN=$("$(find_pg_config)" --bindir)
    command -v pg_autoctl >/dev/null || die "there is no pg_autoctl: run 'scripts/deps.sh cluster'"
    local hash
    hash=$(cksum <<<"$BASE" | cut -d ' ' -f 1)
    ADDRESS=127.$((hash % 254 + 1)).$((hash / 254 % 254 + 1)).$((hash / 254 / 254 % 254 + 1))
    read_network
    cd / # where every user may be
}

# NETWORK: the first three bytes of the addresses of a network that network.sh has made; empty if there is none.
read_network() {
    NETWORK_ID='' NETWORK=''
    [ ! -e "$BASE/network" ] || read -r NETWORK_ID NETWORK <"$BASE/network"
}
namespace() { echo "as$NETWORK_ID-$1-$2"; }
node_address() { if [ -n "$NETWORK" ]; then echo "$NETWORK.$(($1 * 10 + $2))"; else echo "$ADDRESS"; fi; }
monitor_address() { if [ -n "$NETWORK" ]; then echo "$NETWORK.1"; else echo "$ADDRESS"; fi; }

# host_name ADDRESS: by what a server is known to the others.
host_name() { if [ -n "$NETWORK" ]; then echo "$1"; else echo "$RUN"; fi; }

# The words before a command that is to run in the network of a node.
in_namespace() { [ -z "$NETWORK" ] || [ -z "${NAMESPACE:-}" ] || printf '%s\n' nsenter "--net=/run/netns/$NAMESPACE"; }

make_base() {
    id "$SERVER_USER" >/dev/null 2>&1 || die "there is no user '$SERVER_USER' to run the servers as: run 'make deps'"
    if [ ! -d "$BASE" ]; then
        (umask 022 && mkdir -p "$BASE")
        [ "$(id -u)" != 0 ] || chown "$SERVER_USER:" "$BASE"
    fi
    as_server test -O "$BASE" || die "$BASE does not belong to $SERVER_USER: set ALLSOURCE_HOME to a folder of your own"
    as_server chmod 700 "$BASE"
    as_server mkdir -p "$RUN" "$BASE/autoctl/config" "$BASE/autoctl/data" "$BASE/autoctl/run"
}

# pg_autoctl looks for its files and for PostgreSQL in the environment; that of the caller must not count.
# It would quietly use /tmp if the last of these folders were missing.
environment() {
    printf '%s\n' "PATH=$BIN:/usr/bin:/bin" "HOME=$BASE" "PG_CONFIG=$BIN/pg_config" "PGHOST=$RUN" LANG=C.UTF-8 \
        "XDG_CONFIG_HOME=$BASE/autoctl/config" "XDG_DATA_HOME=$BASE/autoctl/data" "XDG_RUNTIME_DIR=$BASE/autoctl/run"
}

autoctl() {
    local variables inside
    mapfile -t variables < <(environment)
    mapfile -t inside < <(in_namespace)
    if [ ${#inside[@]} -gt 0 ]; then
        "${inside[@]}" runuser -u "$SERVER_USER" -- env -i "${variables[@]}" pg_autoctl "$@"
        return
    fi
    as_server env -i "${variables[@]}" pg_autoctl "$@"
}

# In the background, in a session of its own, as a service would run it. No runuser: that would stay as
# its parent.
autoctl_service() {
    local log=$1 variables inside
    shift
    mapfile -t variables < <(environment)
    mapfile -t inside < <(in_namespace)
    as_server sh -c ": >>'$log'"
    if [ "$(id -u)" = 0 ]; then
        set -- "${inside[@]}" setpriv --reuid "$SERVER_USER" --regid "$(id -g "$SERVER_USER")" --init-groups \
            env -i "${variables[@]}" pg_autoctl "$@"
    else
        set -- env -i "${variables[@]}" pg_autoctl "$@"
    fi
    # All processes of a node work in its folder or in the data directory, and are found by that.
    (
        cd "$(dirname "$log")" || exit
        setsid "$@" >>"$log" 2>&1 </dev/null &
    )
}

# The process of a service, if it runs: a file left over may by now name someone else's process.
service_pid() {
    local pid
    pid=$(sed -n 1p "$BASE/autoctl/run/pg_autoctl$1/pg_autoctl.pid" 2>/dev/null) || return 1
    grep -qsz pg_autoctl "/proc/$pid/cmdline" && grep -qsz -F "$1" "/proc/$pid/cmdline" && echo "$pid"
}

# All processes that belong to a data directory, also where their parent is gone; keepers: those of pg_autoctl, whose
# titles do not tell what they are about.
processes() {
    local dir
    dir=$(dirname "$1")
    find /proc/[0-9]* -maxdepth 1 -name cwd \( -lname "$dir" -o -lname "$1" \) -printf '%h\n' 2>/dev/null | sed 's:^/proc/::' || true
}
keepers() {
    local pid
    for pid in $(processes "$1"); do
        if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = pg_autoctl ]; then echo "$pid"; fi
    done
}

# A process may end between being found and being signalled.
signal() { kill "-$1" "${@:2}" 2>/dev/null || true; }

# shellcheck disable=SC2046 # numbers
signal_service() { signal "$1" $(processes "$2"); }

stop_service() {
    local pid
    pid=$(service_pid "$1") || return 0
    signal "$2" "$pid"
    signal_service CONT "$1" # it may be frozen
    wait_until "pg_autoctl of $1 to stop" not_alive "$pid"
}

# Ends everything of a data directory that is to be deleted, whatever state it is in. The server is not killed, or its
# shared memory would stay.
end_service() {
    local pid
    kill_keeper "$1"
    if pid=$(server_pid "$1"); then
        signal QUIT "$pid"
        signal_service CONT "$1"
        wait_until "the server in $1 to stop" not_alive "$pid"
    fi
    kill_service "$1"
}

# SIGKILL for pg_autoctl alone; its server goes on.
# shellcheck disable=SC2046 # numbers
kill_keeper() {
    signal STOP $(keepers "$1") # or they could have more children than we have counted
    signal KILL $(keepers "$1")
    wait_until "pg_autoctl of $1 to end" has_no_keepers "$1"
}
# shellcheck disable=SC2046 # numbers
has_no_keepers() { not_alive $(keepers "$1"); }

# SIGKILL for a service, its server, and all of their processes, as when the machine is switched off.
# shellcheck disable=SC2046 # numbers
kill_service() {
    signal_service STOP "$1"
    signal_service KILL "$1"
    wait_until "the processes of $1 to end" has_no_processes "$1"
    forget_stale "$1"
}
# shellcheck disable=SC2046 # numbers
has_no_processes() { not_alive $(processes "$1"); }

# A postmaster works in its data directory; a file left over may by now name someone else's process.
server_pid() {
    local pid
    pid=$(sed -n 1p "$1/postmaster.pid" 2>/dev/null) || return 1
    [ "$(readlink "/proc/$pid/cwd")" = "$1" ] && echo "$pid"
}

# What a crash of the machine has left: the numbers in these files may be those of other processes by now, and then
# nothing would start.
forget_stale() {
    rm -f "$BASE/autoctl/run/pg_autoctl$1/pg_autoctl.pid"
    server_pid "$1" >/dev/null || rm -f "$1/postmaster.pid"
}

not_alive() { ! alive "$@"; }

# wait_until WHAT COMMAND ...: until it succeeds, up to WAIT_S.
wait_until() {
    local what=$1 deadline=$((SECONDS + WAIT_S))
    shift
    until "$@"; do
        [ $SECONDS -le $deadline ] || die "waited ${WAIT_S} s in vain for $what"
        sleep 0.1
    done
}

# sql PORT DATABASE QUERY: the value, or lines of values.
sql() { as_server env -i PGCONNECT_TIMEOUT=2 "$BIN/psql" -XAtq -h "$RUN" -p "$1" -U postgres -d "$2" -v ON_ERROR_STOP=1 -c "$3"; }
monitor_sql() { sql "$MONITOR_PORT" pg_auto_failover "$1"; }

# For commands, and for nodes, which may have a network of their own. A node that is cut off must notice: what was sent is
# lost without an error, and TCP by itself goes on for a quarter of an hour.
monitor_uri() { echo "postgres://autoctl_node@/pg_auto_failover?host=$RUN&port=$MONITOR_PORT"; }
monitor_uri_of_nodes() {
    if [ -n "$NETWORK" ]; then
        echo "postgres://autoctl_node@$NETWORK.1:$MONITOR_PORT/pg_auto_failover?keepalives_idle=1&keepalives_interval=1&keepalives_count=2&tcp_user_timeout=2000"
    else
        monitor_uri
    fi
}

# make_data DIR [name=value ...]: a data directory whose settings come from its file allsource.conf.
# pg_auto_failover puts its own settings at the top of postgresql.conf; ours come last and count. The
# file lies in the data directory, so that every copy of it (pg_basebackup, pg_rewind) has it too.
make_data() {
    local data=$1/data setting
    shift
    as_server mkdir -p "$(dirname "$data")"
    as_server "$BIN/initdb" -D "$data" -E UTF8 --locale=C.UTF-8 --auth=trust -U postgres --no-sync >/dev/null ||
        die "initdb failed"
    as_server sh -c "echo \"include 'allsource.conf'\" >>'$data/postgresql.conf'
        printf 'local all all trust\nlocal replication all trust\n' >'$data/pg_hba.conf'"
    # Everybody on this machine comes from the first address, and only the monitor's health checks may. The others are in
    # namespaces, which only root can enter.
    [ -z "$NETWORK" ] || as_server sh -c "printf 'host all %s $NETWORK.1/32 trust\nhost all all $NETWORK.1/32 reject
host all all $NETWORK.0/24 trust\nhost replication all $NETWORK.0/24 trust\n' pgautofailover_monitor >>'$data/pg_hba.conf'"
    write_settings "$data" "$@"
}

write_settings() {
    local data=$1 setting name value
    shift
    {
        echo "unix_socket_directories = '$RUN'"
        echo "unix_socket_permissions = 0700"
        for setting in "$@"; do
            name=${setting%%=*} value=${setting#*=}
            [ "$name" != "$setting" ] || die "a setting looks like name=value, not '$setting'"
            echo "$name = '${value//\'/\'\'}'" # the last one of a name counts
        done
    } | as_server sh -c "cat >'$data/allsource.conf'"
}
