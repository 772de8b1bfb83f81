"""Pseudo-random numbers by arithmetic on counters: equal for equal counters, whenever they are computed.

So a document can be recreated wherever a copy of it is needed, and nothing has to be remembered. The mixing function
is the finaliser of SplitMix64: Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators".
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.splitmix import GOLDEN, mix

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

MASK = (1 << 64) - 1
ROUNDS = 4


def hashed(key: int, numbers: Ints | Words) -> Words:
    """Return 64 pseudo-random bits for each number, of the stream `key`."""
    return mix((numbers.astype(np.uint64) + np.uint64(1)) * GOLDEN + np.uint64(key & MASK))


def key_of(seed: int, stream: int) -> int:
    """Return the key of one of the independent streams of a seed."""
    return int(hashed(int(hashed(0, np.array([seed]))[0]), np.array([stream]))[0])


def shares(words: Words) -> npt.NDArray[np.float64]:
    """Return numbers from 0 to below 1, from the upper 32 bits."""
    return (words >> np.uint64(32)).astype(np.float64) / 2.0**32


def below(words: Words, bounds: Ints | int) -> Ints:
    """Return numbers from 0 to below each bound (less than 2^31), from the lower 32 bits."""
    low = (words & np.uint64(0xFFFFFFFF)).astype(np.int64)
    found: Ints = (low * bounds) >> 32
    return found


@dataclass(frozen=True)
class Permutation:
    """Bijection of 0 to count - 1: a Feistel network (Luby and Rackoff 1988) over the next power of four, iterated
    until the result is below `count`.
    """

    count: int
    key: int

    def forward(self, numbers: Ints) -> Ints:
        return self._walk(numbers, range(ROUNDS))

    def backward(self, numbers: Ints) -> Ints:
        return self._walk(numbers, range(ROUNDS - 1, -1, -1))

    def _walk(self, numbers: Ints, rounds: range) -> Ints:
        found = self._once(numbers.astype(np.int64), rounds)
        outside = np.flatnonzero(found >= self.count)
        while len(outside):
            found[outside] = self._once(found[outside], rounds)
            outside = outside[found[outside] >= self.count]
        return found

    def _once(self, numbers: Ints, rounds: range) -> Ints:
        bits = max(1, (int(self.count - 1).bit_length() + 1) // 2)
        mask = (1 << bits) - 1
        left, right = numbers >> bits, numbers & mask
        inverse = rounds.step < 0
        for number in rounds:
            # Backwards, the former right half stands on the left.
            known = left if inverse else right
            drawn = (hashed(self.key + number * 0x51ED2701, known) >> np.uint64(20)).astype(np.int64) & mask
            if inverse:
                left, right = right ^ drawn, left
            else:
                left, right = right, left ^ drawn
        return (left << bits) | right
