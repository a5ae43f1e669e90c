#!/usr/bin/env bash
# Puts the built extension where PG_CONFIG's PostgreSQL looks for it, or takes it away again:
# install.sh install|uninstall. Honours DESTDIR and CARGO_TARGET_DIR; leaves alone what is up to date.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PG_CONFIG=$(find_pg_config)
LIBRARY=${CARGO_TARGET_DIR:-$ROOT/target}/release/liballsource.so
LIB_DIR=${DESTDIR:-}$("$PG_CONFIG" --pkglibdir)
EXTENSION_DIR=${DESTDIR:-}$("$PG_CONFIG" --sharedir)/extension
VERSION=$(extension_version)

# Not every system lets its user write there.
elevated() {
    local dir=$LIB_DIR
    while [ ! -e "$dir" ]; do dir=$(dirname "$dir"); done
    if [ -w "$dir" ]; then "$@"; else as_root "$@"; fi
}

put() {
    cmp -s "$1" "$3" || {
        # install(1) replaces the file and does not write into it: a server may have it mapped
        elevated install -D -m "$2" "$1" "$3"
        echo "installed $3"
    }
}

install_all() {
    [ -e "$LIBRARY" ] || die "$LIBRARY is missing: run 'make build' first"
    local made script control
    made=$(mktemp -d)
    # shellcheck disable=SC2064 # the folder's name is needed as it is now
    trap "rm -rf '$made'" EXIT
    # That of the router is not in the root: pgrx takes any control file there for that of the crate.
    for control in allsource.control sql/router/allsource_router.control; do
        sed "s/@CARGO_VERSION@/$VERSION/" "$ROOT/$control" >"$made/$(basename "$control")"
    done
    extension_sql >"$made/allsource--$VERSION.sql"
    router_sql >"$made/allsource_router--$VERSION.sql"
    for script in "$made"/*.sql; do
        [ -s "$script" ] || die "there is no SQL script in sql/"
    done
    put "$LIBRARY" 755 "$LIB_DIR/allsource.so"
    for script in "$made"/* "$ROOT"/sql/allsource--*--*.sql; do
        [ ! -e "$script" ] || put "$script" 644 "$EXTENSION_DIR/$(basename "$script")"
    done
}

case ${1:-} in
    install) install_all ;;
    uninstall) elevated rm -f "$LIB_DIR/allsource.so" "$EXTENSION_DIR"/allsource{,_router}.control "$EXTENSION_DIR"/allsource{,_router}--*.sql ;;
    *) die "usage: install.sh install|uninstall" ;;
esac
