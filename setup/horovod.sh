#!/usr/bin/env bash
# Horovod from its source distribution, built once for a version of Horovod, torch and Python; the wheel stays in the
# user's cache. HOROVOD_GPU_OPERATIONS=NCCL (with a CUDA toolkit) builds one for GPUs, HOROVOD_GPU_OPERATIONS= one
# without; .venv keeps what was asked for until something else is, since nearly every target of make comes by here.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

choice="$STAMPS/horovod-choice"
if [[ -z "${HOROVOD_GPU_OPERATIONS+given}" && -f "$choice" ]]; then
    { read -r HOROVOD_GPU_OPERATIONS && read -r HOROVOD_NCCL_HOME; } < "$choice"
fi
export HOROVOD_GPU_OPERATIONS="${HOROVOD_GPU_OPERATIONS:-}" HOROVOD_NCCL_HOME="${HOROVOD_NCCL_HOME:-}"

# By torch's rule; where it finds a toolkit, Horovod's build brings CUDA along without being asked.
has_toolkit() {
    [[ -n "${CUDA_HOME:-${CUDA_PATH:-}}" || -d /usr/local/cuda ]] || command -v nvcc > /dev/null
}

kind=cpu
if [[ -n "$HOROVOD_GPU_OPERATIONS" ]]; then
    kind="$HOROVOD_GPU_OPERATIONS"
    [[ -z "$HOROVOD_NCCL_HOME" ]] || kind+="-$(printf '%s' "$HOROVOD_NCCL_HOME" | sha256sum | cut -c 1-8)"
elif has_toolkit; then
    kind=cuda
fi
tag="$("$PY" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')"
torch="$("$PY" -c 'import importlib.metadata; print(importlib.metadata.version("torch"))')" # 2.13.0+cpu of another index
variant="horovod-$(pinned horovod horovod.txt)-torch-$torch-$tag-$kind-$(sha256_of setup/horovod/* | cut -c 1-8)"
folder="$CACHE/wheels/$variant"

# Links with the NCCL that torch brings and uses, unless HOROVOD_NCCL_HOME names another.
use_nccl_of_torch() {
    local nccl
    nccl="$("$PY" -c 'import nvidia.nccl; print(list(nvidia.nccl.__path__)[0])')"
    mkdir "$1/nccl"
    ln -s "$nccl/lib/libnccl.so.2" "$1/nccl/libnccl.so" # the package has no name to link by
    export HOROVOD_NCCL_INCLUDE="$nccl/include" HOROVOD_NCCL_LIB="$1/nccl" HOROVOD_NCCL_LINK=shared
}

# `standard FILE LANGUAGE VERSION` asks for C++17 where a file asks for that version of a language.
standard() {
    grep -q "CMAKE_$2_STANDARD $3" "$1" || die "Horovod: $1 does not look as expected; was the pin changed?"
    sed -i "s/CMAKE_$2_STANDARD $3/CMAKE_$2_STANDARD 17/" "$1"
}

build() {
    work="$(mktemp -d)"
    trap 'rm -rf "$work"' EXIT
    log "Horovod: fetching the source distribution"
    with_progress horovod-source "$PY" -m pip download --disable-pip-version-check --no-deps --no-binary horovod \
        --no-build-isolation --require-hashes -r requirements/horovod.txt -d "$work"
    tar -xzf "$work"/horovod-*.tar.gz -C "$work"
    # torch's headers ask for C++17, and CUDA's since version 13.
    source="$(echo "$work"/horovod-*/)"
    standard "${source}CMakeLists.txt" CXX 14
    standard "${source}horovod/torch/CMakeLists.txt" CXX 14
    standard "${source}horovod/common/ops/cuda/CMakeLists.txt" CUDA 11
    local change
    for change in setup/horovod/*.patch; do
        patch --strip=1 --batch --fuzz=0 --silent --directory="$source" < "$change" \
            || die "Horovod: $change does not fit; was the pin changed?"
    done
    cp setup/horovod/hmac_sha256.h "${source}horovod/common/gloo/"
    if [[ "$HOROVOD_GPU_OPERATIONS" == NCCL && -z "$HOROVOD_NCCL_HOME" ]]; then
        use_nccl_of_torch "$work"
    fi
    log "Horovod: building the wheel for torch $torch, once (about 2 minutes on 2 cores)"
    # Horovod uses names of these headers without including them, which from GCC 13 on no other header makes up for.
    local includes="-include cstdint -include stdexcept -include string"
    # CMAKE_POLICY_VERSION_MINIMUM is for cmake 4; the compiler's jobs are limited, as each needs up to 2 GB.
    PYTHONDONTWRITEBYTECODE='' CXXFLAGS="$includes ${CXXFLAGS:-}" HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 \
        HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 CMAKE_POLICY_VERSION_MINIMUM=3.5 MAKEFLAGS="-j$(($(nproc) < 8 ? $(nproc) : 8))" \
        with_heartbeat horovod "$PY" -m pip wheel --verbose --disable-pip-version-check --no-build-isolation --no-deps \
        --no-cache-dir -w "$work/wheel" "$source"
    mkdir -p "$CACHE/wheels"
    rm -rf "$folder.partial" "$folder"
    mv "$work/wheel" "$folder.partial"
    mv "$folder.partial" "$folder" # only a complete wheel gets the name
}

if ! "$PY" -m zipfile -t "$folder"/horovod-*.whl > /dev/null 2>&1; then
    build
fi
wheel="$(ls "$folder"/horovod-*.whl)"
key="$variant $(sha256_of "$wheel")"
if done_for horovod "$key"; then
    log "Horovod: already in .venv"
else
    log "Horovod: installing ${wheel##*/}"
    with_heartbeat horovod-install "$PY" -m pip install --disable-pip-version-check --no-deps --no-index \
        --force-reinstall "$wheel"
    PYTHONDONTWRITEBYTECODE='' with_heartbeat horovod-import "$PY" -c 'import horovod.torch'
    mark_done horovod "$key"
fi
chosen="$(printf '%s\n' "$HOROVOD_GPU_OPERATIONS" "$HOROVOD_NCCL_HOME"; echo .)" # its last lines may be empty
[[ "$({ cat "$choice" 2> /dev/null || true; echo .; })" == "$chosen" ]] || printf %s "${chosen%.}" > "$choice"
