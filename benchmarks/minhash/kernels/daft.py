"""Daft: its `normalize` (lower case, NFD, ASCII punctuation out) and its `minhash` over words between spaces."""

from collections.abc import Sequence
from typing import Any

import daft  # type: ignore[import-not-found]
from daft import functions as F

from benchmarks.minhash.kernels import HASHES, SHINGLE


def prepare(texts: Sequence[str]) -> Any:
    daft.set_runner_native(num_threads=1)
    return daft.from_pydict({"text": list(texts)}).collect()


def run(prepared: Any) -> int:
    folded = F.normalize(
        prepared["text"], remove_punct=True, lowercase=True, nfd_unicode=True, white_space=True
    )
    values = F.minhash(folded, num_hashes=HASHES, ngram_size=SHINGLE, hash_function="xxhash3_64")
    return len(prepared.select(values.alias("values")).collect())
