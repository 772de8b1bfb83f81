"""datasketch: shingles made by Python, hashed by its default SHA-1 (`run`) or by Python's own `hash` (`run_fast`)."""

from collections.abc import Sequence

from datasketch import MinHash  # type: ignore[import-not-found]

from benchmarks.minhash.kernels import HASHES, shingles


def prepare(texts: Sequence[str]) -> Sequence[str]:
    return texts


def run(prepared: Sequence[str]) -> int:
    sets = ([shingle.encode() for shingle in shingles(text)] for text in prepared)
    return sum(len(each.hashvalues) == HASHES for each in MinHash.generator(sets, num_perm=HASHES))


def _hash32(shingle: str) -> int:
    return hash(shingle) & 0xFFFFFFFF


def run_fast(prepared: Sequence[str]) -> int:
    sets = (shingles(text) for text in prepared)
    found = MinHash.generator(sets, num_perm=HASHES, hashfunc=_hash32)
    return sum(len(each.hashvalues) == HASHES for each in found)
