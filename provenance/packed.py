"""Sums that prove that records laid end to end are in the rows exactly once and in whole."""

import numpy as np
import numpy.typing as npt

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def token_sums(
    keys: npt.NDArray[np.uint64],
    first: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    tokens: npt.NDArray[np.integer],
) -> tuple[int, int]:
    """Return two sums modulo 2^64 over the tokens of parts of records, each mixed with its record and position.

    `keys` (parts, 2) are those of the records, `first` (parts,) the position in its record where each part begins,
    `counts` (parts,) their tokens, which `tokens` has end to end. The sums of a record are those of its parts added
    up, however it was divided. Each half of a key and a position give a factor by the mixing function of SplitMix64
    (Steele, Lea and Flood 2014).
    """
    ends = np.cumsum(counts)
    place = np.arange(len(tokens)) - np.repeat(ends - counts - first, counts)
    steps = (place.astype(np.uint64) + np.uint64(1)) * _STEP
    values = tokens.astype(np.uint64) + np.uint64(1)
    found = []
    for half in (0, 1):
        mixed = np.repeat(keys[:, half], counts) + steps
        for shift, factor in zip((30, 27), _FACTORS, strict=True):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * factor
        mixed ^= mixed >> np.uint64(31)
        found.append(int((mixed * values).sum(dtype=np.uint64)))
    return found[0], found[1]
