#!/usr/bin/env bash
# Checks the ring of src/queue: queue.sh loom|shuttle|processes|all [--full]
#   loom       every interleaving of a few threads, with what weak orderings allow
#   shuttle    schedules of more threads, drawn at random
#   processes  forked processes, some of them killed
# --full: 100,000 schedules of each kind, 100 million records. ALLSOURCE_QUEUE_SCHEDULES and
# ALLSOURCE_QUEUE_RECORDS say other numbers.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
USAGE="usage: queue.sh loom|shuttle|processes|all [--full]"

# run_test NAME: with the dependencies that a cfg of RUSTFLAGS brings, a target folder of its own
# keeps them from being recompiled each time.
run_test() { cargo test --locked --release --no-default-features --test "$1"; }

check_loom() {
    export RUSTFLAGS="${RUSTFLAGS:-} --cfg loom" CARGO_TARGET_DIR=$TARGET/loom
    run_test queue_loom && run_test positions_loom
}
check_shuttle() { RUSTFLAGS="${RUSTFLAGS:-} --cfg shuttle" CARGO_TARGET_DIR=$TARGET/shuttle run_test queue_shuttle; }
check_processes() { run_test queue_processes; }

case ${2:-} in
    "") ;;
    --full)
        export ALLSOURCE_QUEUE_SCHEDULES=${ALLSOURCE_QUEUE_SCHEDULES:-100000}
        export ALLSOURCE_QUEUE_RECORDS=${ALLSOURCE_QUEUE_RECORDS:-100000000}
        ;;
    *) die "$USAGE" ;;
esac
case ${1:-} in
    loom | shuttle | processes) checks=("$1") ;;
    all) checks=(loom shuttle processes) ;;
    *) die "$USAGE" ;;
esac
for check in "${checks[@]}"; do
    say "the ring: $check"
    "check_$check"
done
