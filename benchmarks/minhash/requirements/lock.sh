#!/usr/bin/env bash
# Resolves each peer's .in anew into its lock with hashes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
for name in *.in; do
    ../../../.venv/bin/uv pip compile "$name" --generate-hashes --python-version 3.11 \
        --python-platform x86_64-manylinux_2_28 --no-emit-index-url --no-annotate --no-header --upgrade --quiet \
        -o "${name%.in}.txt"
done
