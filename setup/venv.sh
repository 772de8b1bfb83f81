#!/usr/bin/env bash
# setup/venv.sh [dev]: the packages of requirements/run.txt, with `dev` also those of dev.txt, in .venv, and this
# checkout itself (editable, so that etl, schemas and training import from any folder). Every file's hash is checked.
# What torch can be imported without (requirements/excludes.txt) is there with GPU=1 or a GPU only. TORCH_INDEX_URL names
# an index for torch itself, whose libraries for CUDA it then has to bring or to do without; .venv keeps to it until
# TORCH_INDEX_URL says otherwise (empty: back to the lock).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

uv_or_pip() {
    # uv is many times faster; pip understands settings (a package index in pip.conf, say) that uv does not read.
    UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-300}" UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}" \
        "${PY%/*}/uv" pip install --python "$PY" "$@" || {
        echo "setup: uv could not do it; trying pip"
        "$PY" -m pip install "$@"
    }
}
export -f uv_or_pip
export PY

install_lock() { with_progress "$1" bash -c 'uv_or_pip "$@"' - --require-hashes --no-deps -r "$2"; }

# The lock without torch and what it alone brings.
without_torch() { awk '/^[^ #]/ { torch = /^(torch|nvidia-|cuda-)/ } !torch' requirements/run.txt; }

# GPU=1 or GPU=0 decides; without it a GPU that is found does.
has_gpu() { [[ "${GPU:-}" != 0 && (-n "${GPU:-}" || -e /dev/nvidiactl) ]]; }

python="$(find_python)"
index="${TORCH_INDEX_URL-$(cat "$STAMPS/torch-index" 2> /dev/null || true)}"
key="$(sha256_of requirements/bootstrap.txt requirements/run.txt) $("$python" --version) $PWD $index"
if done_for run "$key"; then
    log "packages: already in $VENV"
else
    # A moved checkout, another Python, another torch.
    origin="$PWD $(version_of "$python") $index"
    [[ ! -e "$VENV" || -d "$STAMPS" ]] \
        || die "$VENV was not made by the set-up: move it away, or choose another name with RINGLAKE_VENV=.venv-ringlake"
    done_for origin "$origin" || rm -rf "$VENV"
    mkdir -p "$STAMPS"
    log "packages: creating $VENV with $python"
    with_heartbeat venv "$python" -m venv "$VENV"
    mark_done origin "$origin"
    mark_done python "$python"
    with_heartbeat uv "$PY" -m pip install --disable-pip-version-check --require-hashes --no-deps \
        -r requirements/bootstrap.txt
    if [[ -z "$index" ]]; then
        log "packages: installing $(grep -c '^[a-z].*==' requirements/run.txt) packages of requirements/run.txt (5 GB)"
        install_lock packages requirements/run.txt
    else
        version="$(pinned torch run.txt)"
        log "packages: installing requirements/run.txt, but torch $version from $index"
        lock="$STAMPS/run-without-torch.txt"
        without_torch > "$lock"
        install_lock packages "$lock"
        UV_DEFAULT_INDEX="$index" PIP_INDEX_URL="$index" with_progress torch bash -c 'uv_or_pip "$@"' - "torch==$version"
    fi
    mark_done torch-index "$index"
    mark_done run "$key"
fi

if [[ -z "$index" ]] && has_gpu && ! done_for gpu "$(sha256_of requirements/gpu.txt)"; then
    log "packages: installing requirements/gpu.txt, for a GPU"
    install_lock packages-gpu requirements/gpu.txt
    mark_done gpu "$(sha256_of requirements/gpu.txt)"
fi

if [[ "${1:-}" == dev ]]; then
    key="$(sha256_of requirements/run.txt requirements/dev.txt)"
    if done_for dev "$key"; then
        log "packages for tests and lint: already in $VENV"
    else
        log "packages for tests and lint: installing requirements/dev.txt"
        install_lock packages-dev requirements/dev.txt
        mark_done dev "$key"
    fi
fi

key="$(sha256_of setup.cfg pyproject.toml)"
if ! done_for project "$key"; then
    log "this checkout: installing it (editable)"
    with_heartbeat project bash -c 'uv_or_pip "$@"' - --no-deps --no-build-isolation -e .
    mark_done project "$key"
fi
