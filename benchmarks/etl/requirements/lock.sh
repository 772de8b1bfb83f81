#!/usr/bin/env bash
# Resolves each peer's .in anew into its lock with hashes. What text-dedup asks for and its MinHash command never
# imports (Spark, ONNX, documentation tools: 700 MB) stays out of the lock.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
uv=../../../.venv/bin/uv
left_out=()
for name in pyspark py4j unisim onnx onnxruntime usearch flatbuffers protobuf ml-dtypes numkong jaxtyping wadler-lindig \
    sphinx sphinxcontrib-bibtex pybtex pybtex-docutils latexcodec alabaster babel docutils imagesize snowballstemmer \
    roman-numerals sphinxcontrib-applehelp sphinxcontrib-devhelp sphinxcontrib-htmlhelp sphinxcontrib-jsmath \
    sphinxcontrib-qthelp sphinxcontrib-serializinghtml fire termcolor tabulate pybloom-live bitarray; do
    left_out+=(--no-emit-package "$name")
done
for name in *.in; do
    "$uv" pip compile "$name" --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
        --no-emit-index-url --no-annotate --no-header --upgrade --quiet "${left_out[@]}" -o "${name%.in}.txt"
done
