"""The product's kernel as a whole: exact hashes, shingle sets and band keys. `run_values`: the values alone."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from benchmarks.minhash.kernels import BANDS, HASHES, ROWS, SHINGLE, batches
from etl.duplicates.minhash import Banding, minhash, shingle_sets, sketch
from etl.duplicates.tokens import tokenise


def prepare(texts: Sequence[str]) -> list[pa.Array]:
    return [pa.array(batch) for batch in batches(texts)]


def run(prepared: Sequence[pa.Array]) -> int:
    seen: set[bytes] = set()
    return sum(len(sketch(batch, SHINGLE, Banding(BANDS, ROWS), seen).content_hash) for batch in prepared)


def run_values(prepared: Sequence[pa.Array]) -> int:
    return run_hashes([shingle_sets(tokenise(batch), SHINGLE) for batch in prepared])


def prepare_hashes(texts: Sequence[str]) -> list[Any]:
    return [shingle_sets(tokenise(batch), SHINGLE) for batch in prepare(texts)]


def run_hashes(prepared: Sequence[Any]) -> int:
    return sum(minhash(values, offsets, HASHES).shape[1] for values, offsets in prepared)
