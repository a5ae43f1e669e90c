#!/usr/bin/env bash
# Lets all that can happen to a cluster happen to one, in random order, under load: cluster-faults.sh [MINUTES] (30)
# ALLSOURCE_SEED repeats an order. ALLSOURCE_E2E_KEEP leaves a cluster in which something was found.
# The extension must be installed ('make install FEATURES=rocksdb').
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export_cargo_environment
cd "$ROOT"

case ${1:-30} in *[!0-9]*) die "usage: cluster-faults.sh [MINUTES]" ;; esac
export ALLSOURCE_E2E_CLUSTER_MINUTES=${1:-30}
cargo test --locked --manifest-path tests/e2e/Cargo.toml --test groups -- --nocapture
