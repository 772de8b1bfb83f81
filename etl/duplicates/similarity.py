"""Exact Jaccard similarity of shingle sets, and the components that near-duplicates form within LSH buckets.

Two members of a bucket are connected when their sets' Jaccard similarity reaches the threshold and they have the same
signs, where both are of short texts (etl/duplicates/equality.py); every edge is verified so. The components are those
of all such pairs that share a bucket, whichever was compared first and however the buckets are spread over tasks.
What makes this cheap is that pairs already connected need no comparison, and that pairs which cannot be similar are
not even listed:

1. Large buckets: members are described by their differences from what most of them contain
   (etl/duplicates/large_buckets.py), in time proportional to their shingles.
2. In small buckets the first member is compared with all the others; where that leaves pieces, all pairs across the
   pieces are, for a member that the first does not resemble may resemble one that it does.
"""

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from etl.duplicates.connecting import Connected, Ints

COMPARED_AT_ONCE = 1 << 22  # shingles gathered for a chunk of pairs
OPENED_AT_ONCE = 1 << 15  # pairs whose components are looked up at a time
HASHED_AT_ONCE = 1 << 17  # values whose parities are summed up at a time
PARITY_WORDS = 8  # of 64 bits, a set
SLACK = 1e-9  # against rounding where a bound may only ever be too generous


class SimilarSets(Connected):
    """Sets of 64-bit hashes, and their components so far.

    `values`, `offsets` int64: set i is values[offsets[i]:offsets[i + 1]], sorted and without repetitions, not empty.
    `signs` int64 (sets,): two sets with different ones other than 0 are not similar, whatever they have in common.
    `sizes` int64 (sets,). `matrix`: sets x those values that two sets or more contain (no other can be common).
    `listed` and `compared` count the candidate pairs that were listed and those whose sets were compared.
    """

    def __init__(self, values: Ints, offsets: Ints, similarity: float, signs: Ints | None = None) -> None:
        super().__init__(len(offsets) - 1)
        self.sizes: Ints = np.diff(offsets)
        self.signs = np.zeros_like(self.sizes) if signs is None else signs
        self._parities = _parities(values, offsets)
        codes, width = _codes_of_shared(values)
        kept = codes >= 0
        before = np.zeros(len(kept) + 1, dtype=np.int32)
        np.cumsum(kept, out=before[1:])
        within = before[offsets]
        del before
        codes = codes[kept]
        shape = (len(self.sizes), width)
        self.matrix = csr_array((np.ones(len(codes), dtype=np.int8), codes, within), shape=shape)
        self.similarity = similarity
        self.listed = 0
        self.compared = 0

    def similarities(self, first: Ints, second: Ints) -> npt.NDArray[np.float64]:
        """Return the Jaccard similarity of each pair of sets, shape (pairs,)."""
        common = (self.matrix[first] * self.matrix[second]).indptr
        intersection = np.diff(common)
        self.compared += len(first)
        similarities: npt.NDArray[np.float64] = intersection / (
            self.sizes[first] + self.sizes[second] - intersection
        )
        return similarities

    def connect(self, first: Ints, second: Ints) -> None:
        """Compare the pairs that are not connected and could be similar by their sizes; connect the similar ones."""
        self.listed += len(first)
        pairs = np.unique(self._open(np.minimum(first, second), np.maximum(first, second)))
        for begin in range(0, len(pairs), OPENED_AT_ONCE):
            some = self._open(*np.divmod(pairs[begin : begin + OPENED_AT_ONCE], len(self.sizes)))
            some = some[self._parities_allow(*np.divmod(some, len(self.sizes)))]
            while len(some := self._open(*np.divmod(some, len(self.sizes)))):
                first, second = np.divmod(some, len(self.sizes))
                work = np.cumsum(self.sizes[first] + self.sizes[second])
                now = max(1, int(np.searchsorted(work, COMPARED_AT_ONCE)))
                one, two = first[:now], second[:now]
                similar = self.similarities(one, two) >= self.similarity
                self.join(one[similar], two[similar])
                some = some[now:]

    def _open(self, first: Ints, second: Ints) -> Ints:
        """Return the pairs that have to be compared, each as one number."""
        small = np.minimum(self.sizes[first], self.sizes[second])
        large = np.maximum(self.sizes[first], self.sizes[second])
        keep = small >= self.similarity * large - SLACK
        first, second = first[keep], second[keep]
        one, other = self.signs[first], self.signs[second]
        keep = (self.labels_of(first) != self.labels_of(second)) & (
            (one == other) | (one == 0) | (other == 0)
        )
        pairs: Ints = first[keep] * len(self.sizes) + second[keep]
        return pairs

    def _parities_allow(self, first: Ints, second: Ints) -> npt.NDArray[np.bool_]:
        """Return False where a pair's parities differ in more bits than similar sets can in elements."""
        different = _ones_in(self._parities[first] ^ self._parities[second]).sum(axis=1)
        share = (1 - self.similarity) / (1 + self.similarity)
        allowed: npt.NDArray[np.bool_] = different <= share * (self.sizes[first] + self.sizes[second]) + SLACK
        return allowed


def _codes_of_shared(values: Ints) -> tuple[npt.NDArray[np.int32], int]:
    """Return the rank of each value among those that occur more than once, -1 for others, and the number of ranks."""
    codes = np.full(len(values), -1, dtype=np.int32)
    ranks = 0
    # One sixteenth of all hashes at a time, by their first four bits: sorting takes four times its input.
    sixteenths = values.astype("<i8", copy=False).view(np.int8)[7::8] >> 4
    for sixteenth in range(-8, 8):  # in the order of the values, so that the rows of the matrix are sorted
        places = np.flatnonzero(sixteenths == sixteenth)
        ordered = values[places]
        order = np.argsort(ordered)
        ordered = ordered[order]
        repeats = np.zeros(len(ordered) + 1, dtype=bool)
        np.equal(ordered[1:], ordered[:-1], out=repeats[1:-1])
        shared = repeats[1:] | repeats[:-1]
        begins = shared & ~repeats[:-1]
        codes[places[order[shared]]] = ranks - 1 + np.cumsum(begins[shared], dtype=np.int32)
        ranks += int(begins.sum())
    return codes, ranks


def _parities(values: Ints, offsets: Ints) -> npt.NDArray[np.uint64]:
    """Return the parity bits of each set; shape (sets, PARITY_WORDS)."""
    filled = np.flatnonzero(np.diff(offsets))
    found = np.zeros((len(offsets) - 1, PARITY_WORDS), dtype=np.uint64)
    starts = np.append(offsets[filled], offsets[-1])
    first = 0
    while first < len(filled):
        end = max(first + 1, int(np.searchsorted(starts, starts[first] + HASHED_AT_ONCE, side="right")) - 1)
        chunk = values[starts[first] : starts[end]].view(np.uint64)
        bits = np.uint64(1) << (chunk & np.uint64(63))
        words = (chunk >> np.uint64(6)) % np.uint64(PARITY_WORDS)
        for word in range(PARITY_WORDS):
            here = bits * (words == word)
            found[filled[first:end], word] = np.bitwise_xor.reduceat(here, starts[first:end] - starts[first])
        first = end
    return found


def _ones_in(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the number of one bits of each word (numpy 2 has bitwise_count): Warren 2002, "Hacker's delight", 5-1."""
    words = words - ((words >> np.uint64(1)) & np.uint64(0x5555555555555555))
    words = (words & np.uint64(0x3333333333333333)) + (
        (words >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    words = (words + (words >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (words * np.uint64(0x0101010101010101)) >> np.uint64(56)
