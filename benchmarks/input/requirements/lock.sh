#!/usr/bin/env bash
# Resolves each peer's .in anew into its lock with hashes. torch and its CUDA libraries stay out of the locks: the
# environments link those of the product (see environments.py), so that all loaders fill the same tensors.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
uv=../../../.venv/bin/uv
grep -E '^torch==' ../../../requirements/run.txt | sed 's/ .*//' > torch.constraint
trap 'rm -f torch.constraint' EXIT
left_out=(--no-emit-package torch)
while read -r name; do left_out+=(--no-emit-package "$name"); done \
    < <(grep -oE '^(triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==' ../../../requirements/gpu.txt | tr -d '=')
for name in *.in; do
    "$uv" pip compile "$name" -c torch.constraint --generate-hashes --python-version 3.11 \
        --python-platform x86_64-manylinux_2_28 --no-emit-index-url --no-annotate --no-header --upgrade --quiet \
        "${left_out[@]}" -o "${name%.in}.txt"
done
