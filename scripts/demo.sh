#!/usr/bin/env bash
# The demo: a private server, with this machine's package history in it, one stream per package.
# demo.sh [load|psql|stop|remove]. The extension must be installed already ('make demo' does it).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/history.sh"

PG_CONFIG=$(find_pg_config)
export PG_CONFIG
DIR=$(cluster_base)/demo
STAMP=$(cluster_base)/demo.stamp

cluster() { "$ROOT/scripts/cluster.sh" "$1" "$DIR" "${@:2}"; }

start() {
    cluster start allsource.database=demo
    # shellcheck disable=SC2046 # lines of name=value without blanks
    export $(cluster env)
}

run_psql() { "$("$PG_CONFIG" --bindir)/psql" "$@"; }

# What is installed: the library's checksum, the SQL script's, and the version.
installed() {
    sha256sum "$("$PG_CONFIG" --pkglibdir)/allsource.so" \
        "$("$PG_CONFIG" --sharedir)/extension/allsource--$(extension_version).sql" | cut -d ' ' -f 1
    extension_version
}
line() { sed -n "$1p" <<<"$2"; }

# A running server keeps the library that it started with. And a database that another build of the
# same version has made cannot be updated, as no upgrade script leads from a version to itself.
follow_the_build() {
    local new old
    new=$(installed) || die "the extension is not installed: run 'make demo'"
    old=$(cat "$STAMP" 2>/dev/null) || old=
    if [ -e "$DIR" ] && [ "$new" != "$old" ]; then
        if [ "$(line 2 "$new")" != "$(line 2 "$old")" ] && [ "$(line 3 "$new")" = "$(line 3 "$old")" ]; then
            say "the demo's database is of another build: starting afresh"
            cluster remove
        else
            cluster stop
        fi
    fi
    mkdir -p "$(dirname "$STAMP")"
    echo "$new" >"$STAMP"
}

load() {
    find_history
    if [ -z "$(run_psql -XAt -d postgres -c "SELECT 1 FROM pg_database WHERE datname = 'demo'")" ]; then
        run_psql -Xq -d postgres -c 'CREATE DATABASE demo'
    fi
    history_lines | PAGER='' run_psql -Xq -d demo -v ON_ERROR_STOP=1 -v source="$SOURCE" -v style="$STYLE" \
        -f "$ROOT/scripts/demo.sql"
}

go_on() {
    cat <<END

Go on with 'make psql', and there for instance:

    SELECT stream_id, current_version FROM event_streams ORDER BY current_version DESC LIMIT 5;
    SELECT es_append('cart-1', 'item added', '{"item": "tea"}', expected_version => 0);
    SELECT * FROM es_read('cart-1');
    SELECT es_enqueue('sensor-7', 'measured', '{"celsius": 21.5}', durable => true);
    SELECT position, stream_id, version, event_type FROM es_read_all(max_count => 10);

Any client reaches the server by: psql -h $PGHOST -U $PGUSER demo
It runs until 'make stop'; 'make clean' removes it.
END
}

case ${1:-load} in
    load)
        follow_the_build
        say "starting a private PostgreSQL server in $DIR"
        start
        load
        go_on
        ;;
    psql)
        cluster status >/dev/null || [ -e "$DIR" ] || die "there is no demo yet: run 'make demo'"
        start
        run_psql -d demo
        ;;
    stop) cluster stop ;;
    remove)
        [ ! -e "$DIR" ] || cluster remove
        rm -f "$STAMP"
        ;;
    *) die "usage: demo.sh [load|psql|stop|remove]" ;;
esac
