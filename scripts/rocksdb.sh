#!/usr/bin/env bash
# Compiles RocksDB, if that has not been done yet, and prints what tells cargo where it is:
#   eval "$(scripts/rocksdb.sh)"
# It takes 10 to 25 minutes, so it is done once for all clones, profiles and target folders, in a folder
# of the cache: cargo alone would compile it for each of them.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

# With these the library is static, as it is if cargo compiles it.
print_environment() {
    printf 'export ROCKSDB_LIB_DIR=%q ROCKSDB_STATIC=1\n' "$1"
    exit
}

[ -z "${ROCKSDB_LIB_DIR:-}" ] || print_environment "$ROCKSDB_LIB_DIR"

VERSION=$(sed -n '/^name = "librocksdb-sys"$/ { n; s/^version = "\(.*\)"$/\1/p }' Cargo.lock)
[ -n "$VERSION" ] || die "librocksdb-sys is not in Cargo.lock"
LIB_DIR=$(cache_dir)/rocksdb-$VERSION
LIBRARY=$LIB_DIR/librocksdb.a

mkdir -p "$(cache_dir)"
# Two runs at once compile it once.
exec 9>"$(cache_dir)/rocksdb.lock"
flock 9
[ ! -e "$LIBRARY" ] || print_environment "$LIB_DIR"

say "compiling RocksDB $VERSION (10 to 25 minutes, once)" >&2
target=$(cache_dir)/rocksdb-target
# Without PostgreSQL, and only checked: hardly more than RocksDB is compiled. An error of the project's
# own code shows where it matters. No debug information: the archive would have half a gigabyte.
env -u RUSTFLAGS CARGO_PROFILE_RELEASE_DEBUG=false CARGO_TARGET_DIR="$target" \
    cargo check --quiet --release --locked --lib --no-default-features --features rocksdb >&2 || true
compiled=$(find "$target/release/build" -path '*/librocksdb-sys-*/out/librocksdb.a' 2>/dev/null | head -n 1)
[ -n "$compiled" ] || die "RocksDB could not be compiled"
mkdir -p "$LIB_DIR"
cp "$compiled" "$LIBRARY.new"
mv "$LIBRARY.new" "$LIBRARY"
rm -rf "$target"
print_environment "$LIB_DIR"
