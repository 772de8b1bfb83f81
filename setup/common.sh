# Shared by the set-up scripts, which source it: folders, messages, stamps. All work from the top of the checkout.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CACHE="${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/ringlake"
PY="$PWD/.venv/bin/python"
STAMPS="$PWD/.venv/.ringlake" # what is done, each file with the key that it was done for; gone with .venv
mkdir -p logs

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 2
}

sha256_of() { cat "$@" | sha256sum | cut -d ' ' -f 1; }

# The pinned version of a package in a requirements file: `pinned torch run.txt` prints 2.13.0.
pinned() { sed -n "s/^$1==\([^ ;]*\).*/\1/p" "requirements/$2"; }

# `done_for NAME KEY` is true when step NAME was completed for KEY; `mark_done` says so. The stamp is written last, so
# that an interrupted step is done again.
done_for() { [[ -f "$STAMPS/$1" && "$(cat "$STAMPS/$1")" == "$2" ]]; }
mark_done() {
    mkdir -p "$STAMPS"
    printf '%s\n' "$2" > "$STAMPS/$1"
}

# Calls a command with its output in logs/setup-NAME.log and a sign of life every few seconds: see setup/heartbeat.
with_heartbeat() {
    local name="$1"
    shift
    setup/heartbeat "logs/setup-$name.log" "$@"
}

# Downloads, whose tools draw progress bars of their own on a terminal: there they run as they are.
with_progress() {
    if [[ -t 2 ]]; then
        shift
        "$@"
    else
        with_heartbeat "$@"
    fi
}

# The Python to build .venv from: $PYTHON, else python3.11, else a python3 that is 3.11; empty when there is none.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2> /dev/null; then
            command -v "$candidate"
            return
        fi
    done
}
