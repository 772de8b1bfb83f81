"""rensa: with shingles made by Python (`run`), or with the product's shingle hashes (`run_mixed`, `run_hashes`)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from rensa import RMinHash  # type: ignore[import-not-found]

from benchmarks.minhash.kernels import HASHES, SHINGLE, batches, shingles
from etl.duplicates.minhash import shingle_sets
from etl.duplicates.tokens import tokenise


def prepare(texts: Sequence[str]) -> list[Sequence[str]]:
    return batches(texts)


def run(prepared: Sequence[Sequence[str]]) -> int:
    done = 0
    for batch in prepared:
        sets = [shingles(text) for text in batch]
        done += RMinHash.digest_matrix_from_token_sets(sets, HASHES, 1).len()
    return done


def prepare_mixed(texts: Sequence[str]) -> list[pa.Array]:
    return [pa.array(batch) for batch in batches(texts)]


def run_mixed(prepared: Sequence[pa.Array]) -> int:
    return run_hashes([shingle_sets(tokenise(batch), SHINGLE) for batch in prepared])


def prepare_hashes(texts: Sequence[str]) -> list[Any]:
    return [shingle_sets(tokenise(batch), SHINGLE) for batch in prepare_mixed(texts)]


def run_hashes(prepared: Sequence[Any]) -> int:
    done = 0
    for values, offsets in prepared:
        hashes, rows = values.view(np.uint64), offsets.astype(np.uint64)
        done += RMinHash.digest_matrix_from_flat_token_hashes(hashes, rows, HASHES, 1).len()
    return done
