#!/usr/bin/env bash
# Compiles the release, with the cargo features that FEATURES names.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export_cargo_environment
cd "$ROOT"

case " ${FEATURES:-} " in *rocksdb*) export_rocksdb ;; esac
cargo build --release --locked --lib ${FEATURES:+--features "$FEATURES"}
