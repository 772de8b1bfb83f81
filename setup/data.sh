#!/usr/bin/env bash
# The demo's raw data: the package licensedcode-data (CC-BY-4.0), pinned and hash-checked, kept in the user's cache and
# unpacked to data/licensedcode/; not installed.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

target=data/licensedcode
version="$(pinned licensedcode-data data.txt)"
expected="$(sed -n 's/.*sha256://p' requirements/data.txt)"
wheel="$CACHE/data/licensedcode_data-$version-py3-none-any.whl"
stamp="data/.licensedcode" # beside the folder: inside it would be a raw file

if [[ -d "$target" && -f "$stamp" && "$(cat "$stamp")" == "$expected" ]]; then
    log "demo data: already in $target"
    exit 0
fi
if [[ ! -f "$wheel" || "$(sha256_of "$wheel")" != "$expected" ]]; then
    log "demo data: fetching licensedcode-data $version (27 MB)"
    work="$(mktemp -d)"
    trap 'rm -rf "$work"' EXIT
    with_progress data "$PY" -m pip download --disable-pip-version-check --no-deps --require-hashes \
        -r requirements/data.txt -d "$work"
    mkdir -p "$CACHE/data"
    mv "$work/${wheel##*/}" "$wheel.partial"
    mv "$wheel.partial" "$wheel"
fi
log "demo data: unpacking 37,000 files to $target"
rm -rf "$target" "$target.partial" "$stamp"
mkdir -p data
with_heartbeat data-unpack "$PY" -m zipfile -e "$wheel" "$target.partial"
mv "$target.partial" "$target"
echo "$expected" > "$stamp"
