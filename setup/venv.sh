#!/usr/bin/env bash
# setup/venv.sh [dev]: the packages of requirements/run.txt, with `dev` also those of dev.txt, in .venv, and this
# checkout itself (editable, so that etl, schemas and training import from any folder). Every file's hash is checked.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

uv_or_pip() {
    # uv is many times faster; pip understands settings (a package index in pip.conf, say) that uv does not read.
    UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-300}" UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}" \
        "$PWD/.venv/bin/uv" pip install --python "$PY" "$@" || {
        echo "setup: uv could not do it; trying pip"
        "$PY" -m pip install "$@"
    }
}
export -f uv_or_pip
export PY

python="$(find_python)"
key="$(sha256_of requirements/bootstrap.txt requirements/run.txt) $("$python" --version) $PWD"
if done_for run "$key"; then
    say "packages: already in .venv"
else
    [[ ! -d .venv || ! -f "$STAMPS/path" || "$(cat "$STAMPS/path")" == "$PWD" ]] || rm -rf .venv # a moved checkout
    say "packages: creating .venv with $python"
    with_heartbeat venv "$python" -m venv .venv
    mark_done path "$PWD"
    with_heartbeat uv "$PY" -m pip install --disable-pip-version-check --require-hashes --no-deps \
        -r requirements/bootstrap.txt
    say "packages: installing $(grep -c '^[a-z].*==' requirements/run.txt) packages of requirements/run.txt (6 GB)"
    with_progress packages bash -c 'uv_or_pip "$@"' - --require-hashes --no-deps -r requirements/run.txt
    mark_done run "$key"
fi

if [[ "${1:-}" == dev ]]; then
    key="$(sha256_of requirements/run.txt requirements/dev.txt)"
    if done_for dev "$key"; then
        say "packages for tests and lint: already in .venv"
    else
        say "packages for tests and lint: installing requirements/dev.txt"
        with_progress packages-dev bash -c 'uv_or_pip "$@"' - --require-hashes --no-deps -r requirements/dev.txt
        mark_done dev "$key"
    fi
fi

key="$(sha256_of setup.cfg pyproject.toml)"
if ! done_for project "$key"; then
    say "this checkout: installing it (editable)"
    with_heartbeat project bash -c 'uv_or_pip "$@"' - --no-deps --no-build-isolation -e .
    mark_done project "$key"
fi
