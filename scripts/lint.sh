#!/usr/bin/env bash
# What the formatter, clippy and shellcheck say, with PostgreSQL and without it; any warning is an error.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export_cargo_environment
cd "$ROOT"

for tool in fmt clippy; do
    cargo $tool --version >/dev/null 2>&1 || die "cargo $tool is missing: rustup component add rustfmt clippy"
done
command -v shellcheck >/dev/null || die "shellcheck is missing: run 'scripts/deps.sh test'"

say "shellcheck"
shellcheck -x -P SCRIPTDIR scripts/*.sh benches/*.sh .ci/run

say "cargo fmt --check"
cargo fmt --all --check

export_rocksdb
# The default features are PostgreSQL 15; pg_test adds the tests that run in a backend.
for features in "" "--features pg_test" "--features rocksdb" "--no-default-features" "--no-default-features --features rocksdb"; do
    say "cargo clippy --all-targets $features"
    # shellcheck disable=SC2086 # two words or none
    cargo clippy --quiet --locked --all-targets $features -- -D warnings
done

# Packages of their own. benches/peers is only formatted: to check it, UmaDB would be compiled.
for package in tests/e2e benches/*/; do
    say "$package"
    cargo fmt --manifest-path "$package/Cargo.toml" --check
    [ "$package" != benches/peers/ ] || continue
    cargo clippy --quiet --locked --manifest-path "$package/Cargo.toml" --all-targets -- -D warnings
done
