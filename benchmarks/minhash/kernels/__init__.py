"""Kernels, one a file, each with `prepare(texts)`, whose result `run` takes: the timed step, texts to MinHash values.

`run` returns how many texts it made values for. The definition is that of etl/duplicates/minhash.py: tokens are runs of
word characters in the NFKC-normalised, case-folded text, shingles are windows of SHINGLE tokens, and there are HASHES
values a text. What a library does otherwise is said in its docstring and in `benchmarks/minhash/cases.py`.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Protocol

HASHES = 140
BANDS, ROWS = 28, 5
SHINGLE = 5
BATCH = 1_000
"""Texts a call where a kernel takes batches."""

_WORD = re.compile(r"\w+")


class Kernel(Protocol):
    """Interface of a kernel's module."""

    def prepare(self, texts: Sequence[str]) -> Any: ...

    def run(self, prepared: Any) -> int: ...


def shingles(text: str) -> list[str]:
    """Return the distinct shingles of a text, in plain Python: for libraries that leave this to their caller."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    if len(words) < SHINGLE:
        return [" ".join(words)] if words else []
    return list({" ".join(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)})


def batches(texts: Sequence[str]) -> list[Sequence[str]]:
    """Return the texts, BATCH at a time."""
    return [texts[begin : begin + BATCH] for begin in range(0, len(texts), BATCH)]
