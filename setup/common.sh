# Shared by the set-up scripts, which source it: folders, messages, stamps. All work from the top of the checkout.
set -euo pipefail
unset PYTHONHOME # of another Python, with which neither ours nor that of .venv would start
cd "$(dirname "${BASH_SOURCE[0]}")/.."

log() { printf 'setup: %s\n' "$*" >&2; }
die() {
    log "error: $*"
    exit 2
}

if [[ -z "${HOME:-}" ]]; then
    unset HOME # for `~` to mean the user's folder in /etc/passwd
    export HOME="$(echo ~)"
fi
[[ "$HOME" == /* ]] || die "HOME is not set, and this user has no home folder: set HOME to a folder for the cache"
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/ringlake"
VENV="${RINGLAKE_VENV:-.venv}" # another name builds an environment beside it: make test-python
PY="$PWD/$VENV/bin/python"
STAMPS="$PWD/$VENV/.ringlake" # completed steps, each file with its key; removed with the environment
mkdir -p logs 2> /dev/null || true # in a read-only checkout whatever is done is found done, and nothing logged

# The set-up removes what it finds there: so never a folder of somebody else.
[[ "$VENV" == .venv* && "$VENV" != */* ]] || die "RINGLAKE_VENV=$VENV: name a folder in the checkout that begins with .venv"

sha256_of() { cat "$@" | sha256sum | cut -d ' ' -f 1; }

# Prints the pinned version of a package in a requirements file: `pinned torch run.txt` prints 2.13.0.
pinned() { sed -n "s/^$1==\([^ ;]*\).*/\1/p" "requirements/$2"; }

# `done_for NAME KEY` is true when step NAME was completed for KEY; `mark_done` records it. The stamp is written
# last, so that an interrupted step is repeated.
done_for() { [[ -f "$STAMPS/$1" && "$(cat "$STAMPS/$1")" == "$2" ]]; }
mark_done() {
    mkdir -p "$STAMPS"
    printf '%s\n' "$2" > "$STAMPS/$1"
}

# Runs a command with its output in logs/setup-NAME.log and a sign of life every few seconds: see setup/heartbeat.
with_heartbeat() {
    local name="$1"
    shift
    setup/heartbeat "logs/setup-$name.log" "$@"
}

# Runs a download; on a terminal its tool draws a progress bar of its own and runs without the heartbeat.
with_progress() {
    if [[ -t 2 ]]; then
        shift
        "$@"
    else
        with_heartbeat "$@"
    fi
}

# Prints the Python to build the environment from: $PYTHON, else the one that it was built from, else the newest of 3.13,
# 3.12 and 3.11; nothing when there is none. Each is run, since pyenv's shims on the PATH may not work.
find_python() {
    local name candidate
    local -a names=(python3.13 python3.12 python3.11 python3)
    if [[ -n "${PYTHON:-}" ]]; then
        names=("$PYTHON")
    elif [[ -f "$STAMPS/python" ]]; then
        names=("$(cat "$STAMPS/python")" "${names[@]}")
    fi
    for name in "${names[@]}"; do
        for candidate in "$name" "${PYENV_ROOT:-$HOME/.pyenv}/versions/${name#python}".*/bin/"$name"; do
            if [[ "$(version_of "$candidate" 2> /dev/null)" =~ ^3\.1[123]$ ]]; then
                command -v "$candidate"
                return
            fi
        done
    done
}

# The minor version of a Python, such as 3.13; a free-threaded one is called 3.13t.
version_of() { "$1" -c 'import sys, sysconfig
print("%d.%d" % sys.version_info[:2] + "t" * bool(sysconfig.get_config_var("Py_GIL_DISABLED")))'; }
