"""Finaliser and increment of SplitMix64, which scatter 64-bit words.

Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators".
"""

import numpy as np
import numpy.typing as npt

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""Odd, 2^64 divided by the golden ratio: its multiples are a sequence to be scattered."""


def mix(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spread every bit over all 64, in place; a bijection."""
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def scattered(keys: npt.NDArray[np.uint64], seed: int = 0) -> npt.NDArray[np.uint64]:
    """Return a number for each record key, (rows, 2), that looks random: (rows,); `seed` has 64 bits at most."""
    return mix(mix(keys[:, 0] + np.uint64(seed)) ^ keys[:, 1])
