# Real input for the demos: this machine's package history, or the history of this repository; sourced, never run.
# shellcheck shell=bash

LOG=${ALLSOURCE_DEMO_LOG:-/var/log/dpkg.log}

# The log's files, the oldest first: however they were rotated, each begins with its first time.
log_files() {
    local file
    for file in "$LOG"*; do
        if [ -r "$file" ] && [ -s "$file" ]; then
            printf '%s\t%s\n' "$({ zcat -f "$file" 2>/dev/null || true; } | sed -n 1p | cut -c 1-19)" "$file"
        fi
    done | LC_ALL=C sort | cut -f 2
}

# Without what a crash can leave in a log: zero bytes, and bytes that are no UTF-8.
clean() { tr -d '\000\001\002' | iconv -f UTF-8 -t UTF-8 -c; }

# What is there, as SOURCE (dpkg or git), and STYLE, for the lines around psql's tables.
find_history() {
    SOURCE=dpkg STYLE=ascii
    mapfile -t FILES < <(log_files)
    if [ ${#FILES[@]} -gt 0 ]; then
        say "reading ${#FILES[@]} file(s) of this machine's package history, $LOG*"
    elif git -C "$ROOT" rev-parse --verify --quiet HEAD >/dev/null 2>&1; then
        say "there is no $LOG here; reading the history of this repository instead"
        SOURCE=git
    else
        die "there is neither a package history ($LOG) nor a git history to load"
    fi
    # shellcheck disable=SC2034 # who sources this uses it
    case ${LC_ALL:-${LC_CTYPE:-${LANG:-}}} in *UTF-8 | *utf8) STYLE=unicode ;; esac
}

# Its lines.
history_lines() {
    if [ "$SOURCE" = dpkg ]; then
        zcat -f "${FILES[@]}"
    else
        git -C "$ROOT" log --reverse --encoding=UTF-8 --format='%H%x09%cI%x09%an%x09%s'
    fi | clean
}
