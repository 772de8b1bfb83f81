# Shared by the set-up scripts, which source it: folders, messages, stamps. All run from the top of the checkout.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CACHE="${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/ringlake"
VENV="$PWD/.venv"
PY="$VENV/bin/python"
LOGS="$PWD/logs"
mkdir -p "$CACHE" "$LOGS"

say() { printf '%s\n' "setup: $*" >&2; }
die() {
    say "error: $*"
    exit 2
}

sha256_of() { sha256sum "$1" | cut -d ' ' -f 1; }

# The pinned version of a package in the lock: `locked torch` prints 2.13.0.
locked() { sed -n "s/^$1==\([^ ;]*\).*/\1/p" requirements/run.txt; }

# Calls a command with its output in logs/setup-NAME.log and a sign of life every few seconds: see setup/heartbeat.
with_heartbeat() {
    local name="$1"
    shift
    setup/heartbeat "$LOGS/setup-$name.log" "$@"
}
