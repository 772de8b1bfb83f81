"""Record keys: 128-bit hashes of record ids that make "every row exactly once" cheap to check."""

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

KEY_BYTES = 16


def record_key(record_id: str) -> bytes:
    """Return the 16-byte BLAKE2b digest (RFC 7693) of the id in UTF-8."""
    return hashlib.blake2b(record_id.encode(), digest_size=KEY_BYTES).digest()


def record_keys(record_ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """Return the keys of records as their two little-endian halves: (records, 2)."""
    return np.frombuffer(b"".join(map(record_key, record_ids)), dtype="<u8").reshape(-1, 2)


def key_sums(keys: npt.NDArray[np.uint64]) -> tuple[int, int]:
    """Return the sums modulo 2^64 of the two halves of the keys, shape (rows, 2), dtype uint64; (0, 0) for no rows."""
    halves = keys.sum(axis=0, dtype=np.uint64)
    return int(halves[0]), int(halves[1])


def add_sums(sums: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Return the key sums of a whole from those of its parts."""
    first = second = 0
    for one, two in sums:
        first, second = (first + one) % 2**64, (second + two) % 2**64
    return first, second
