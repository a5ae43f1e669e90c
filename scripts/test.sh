#!/usr/bin/env bash
# Runs all tests, or the kinds that are named: test.sh [unit|queue|sidecar|pgrx|install|regress|isolation|e2e|pgspot ...]
# TESTS="name ..." runs only these of regress or isolation.
# A kind that fails does not keep the next ones from running. A kind that ran no test has failed.
# The last line is "N passed, N failed".
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export_cargo_environment
export_rocksdb
cd "$ROOT"

CLUSTER=$(cluster_base)/test-$$
RESULTS=${CARGO_TARGET_DIR:-$ROOT/target}/test-results
PGXS=$("$PG_CONFIG" --pkglibdir)/pgxs/src/test

# The pure layers, without PostgreSQL.
step_unit() { cargo test --locked --no-default-features; }

# The queue under model checkers; its test with processes is among those of the kind unit.
step_queue() { scripts/queue.sh loom && scripts/queue.sh shuttle; }

# The sidecar, with RocksDB and without PostgreSQL.
step_sidecar() {
    cargo test --locked --no-default-features --features rocksdb --lib sidecar:: &&
        cargo test --locked --no-default-features --features rocksdb --test sidecar --test sidecar_killed
}

# In a backend, with a debug build of the extension in place of the release.
step_pgrx() {
    local pgdata_base library
    library=$("$PG_CONFIG" --pkglibdir)/allsource.so
    if [ "$(id -u)" != 0 ] && [ -w "$("$PG_CONFIG" --pkglibdir)" ]; then
        cargo pgrx test pg15 --features rocksdb
        return
    fi
    # cargo-pgrx will write into the installed library. Servers that have it mapped, as the demo's,
    # keep the file of now.
    [ ! -e "$library" ] || as_root sh -c "cp -p '$library' '$library.new' && mv -f '$library.new' '$library'"
    pgdata_base=$(mktemp -d /var/tmp/allsource-pgrx.XXXXXX)
    as_root chown postgres "$pgdata_base"
    local status=0
    cargo pgrx test pg15 --features rocksdb --runas postgres --pgdata "$pgdata_base" || status=$?
    as_root rm -rf "$pgdata_base"
    return $status
}

# The release with the sidecar, which the kinds below use.
step_install() { make install FEATURES=rocksdb; }

# golden FOLDER SOURCES SUFFIX PROGRAM: all files of tests/FOLDER/SOURCES in the order of their names
golden() {
    local folder=$ROOT/tests/$1 out=$RESULTS/$1 names name
    # shellcheck disable=SC2086 # names have no blanks
    mapfile -t names < <(
        if [ -n "${TESTS:-}" ]; then
            printf '%s\n' $TESTS
        else
            find "$folder/$2" -name "*.$3" -printf '%f\n' 2>/dev/null | sed "s/\.$3\$//" | LC_ALL=C sort
        fi
    )
    [ ${#names[@]} -gt 0 ] || die "there are no tests in tests/$1/$2"
    rm -rf "$out" && mkdir -p "$out/expected"
    # Without an expected file the program would stop at once; beside an empty one it shows the result.
    for name in "${names[@]}"; do
        [ -e "$folder/expected/$name.out" ] || : >"$out/expected/$name.out"
    done
    start_cluster "allsource.database=allsource_$1"
    "$PGXS/$4" --bindir="$("$PG_CONFIG" --bindir)" --inputdir="$folder" --outputdir="$out" \
        --host="$PGHOST" --port="$PGPORT" --user="$PGUSER" --dbname="allsource_$1" --encoding=UTF8 \
        --load-extension=allsource "${names[@]}" || {
        cat "$out/regression.diffs" 2>/dev/null || tail -n 20 "$CLUSTER/server.log"
        return 1
    }
}
step_regress() { golden regress sql sql regress/pg_regress; }
step_isolation() { golden isolation specs spec isolation/pg_isolation_regress; }

start_cluster() {
    # One that is there serves the database of another kind.
    scripts/cluster.sh remove "$CLUSTER"
    scripts/cluster.sh start "$CLUSTER" fsync=off max_prepared_transactions=2 "$@"
    eval "$(scripts/cluster.sh env "$CLUSTER")"
}

# They start clusters of their own.
step_e2e() { cargo test --locked --no-fail-fast --manifest-path tests/e2e/Cargo.toml; }

step_pgspot() {
    local script procedure allowed=()
    # A procedure that commits cannot have a search_path; what these say is qualified.
    for procedure in 'es_group_add(group_id int4,conninfo text,weight int4)' \
        'move_carry_on(partition_id int4,epoch int8)' 'es_move_partition(partition_id int4,group_id int4)' \
        'es_rebalance(max_moves int4)'; do
        allowed+=(--proc-without-search-path "allsource.$procedure")
    done
    for script in extension router; do
        "${script}_sql" | show_bodies >"$RESULTS/$script.sql"
        "$(pgspot_venv)/bin/pgspot" "${allowed[@]}" "$RESULTS/$script.sql"
    done
}

show_bodies() {
    # A body of standard SQL is bound when the function is made, as a view is. pgspot does not know
    # the form and is shown the old one.
    # shellcheck disable=SC2016 # the $ are meant for sed and SQL
    sed -E \
        -e 's/^RETURN (.*);$/SET search_path = pg_catalog, pg_temp AS $body$ SELECT \1 $body$;/' \
        -e '/^BEGIN ATOMIC$/,/^END;$/ {
                s/^BEGIN ATOMIC$/SET search_path = pg_catalog, pg_temp AS $body$/
                s/^END;$/$body$;/
            }'
}

# How many tests passed and failed, by the log of a kind.
count() {
    case $1 in
        unit | queue | sidecar | pgrx | e2e)
            awk '/^test result: / { for (i = 2; i <= NF; i++) { if ($i == "passed;") p += $(i-1); if ($i == "failed;") f += $(i-1) } }
                END { print p + 0, f + 0 }' "$2"
            ;;
        regress | isolation) awk '/^test .* \.\.\. ok / { p++ } /^test .* \.\.\. FAILED / { f++ } END { print p + 0, f + 0 }' "$2" ;;
        *) if [ "$3" = 0 ]; then echo 1 0; else echo 0 1; fi ;;
    esac
}

PASSED=0 FAILED=0 SUMMARY=()

run() {
    local kind=$1 log=$RESULTS/$1.log status passed failed verdict=passed start=$SECONDS
    [ "$(type -t "step_$kind")" = function ] || die "there is no kind of test named '$kind'"
    say "$kind"
    set +e
    (
        set -e
        "step_$kind"
    ) 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    set -e
    read -r passed failed < <(count "$kind" "$log" "$status")
    if [ "$status" = 0 ] && [ $((passed + failed)) = 0 ]; then
        status=1 verdict="FAILED: no test ran"
    elif [ "$status" != 0 ]; then
        verdict=FAILED
    fi
    # What fails before its first test, to compile for instance, is one failure.
    [ "$status" = 0 ] || [ "$failed" -gt 0 ] || failed=1
    PASSED=$((PASSED + passed)) FAILED=$((FAILED + failed))
    SUMMARY+=("$(printf '%-10s %4d passed %4d failed %5d s  %s' "$kind" "$passed" "$failed" $((SECONDS - start)) "$verdict")")
}

[ $# -gt 0 ] || set -- unit queue sidecar pgrx install regress isolation e2e pgspot
mkdir -p "$RESULTS"
trap 'scripts/cluster.sh remove "$CLUSTER"' EXIT
for kind in "$@"; do run "$kind"; done

say "summary (logs and results are in $RESULTS)"
printf '%s\n' "${SUMMARY[@]}"
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
