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

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

Ints = npt.NDArray[np.int64]

SMALL_BUCKET = 64  # members; up to here all pairs are compared
COMPARED_AT_ONCE = 1 << 22  # shingles gathered for a chunk of pairs
OPENED_AT_ONCE = 1 << 15  # pairs whose components are looked up at a time
PAIRS_AT_ONCE = 1 << 21  # candidate pairs held in memory
HASHED_AT_ONCE = 1 << 17  # values whose parities are summed up at a time
PARITY_WORDS = 8  # of 64 bits, a set
SLACK = 1e-9  # against rounding where a bound may only ever be too generous


@dataclass(frozen=True)
class Buckets:
    """LSH buckets: bucket i is `members[offsets[i]:offsets[i + 1]]`, indices of sets; each at least two; int64."""

    members: Ints
    offsets: Ints

    @classmethod
    def of(cls, keys: Ints, rows: Ints) -> "Buckets":
        """Build buckets from pairs (bucket key, row); leave out buckets of one member."""
        order = np.lexsort((rows, keys))
        keys, rows = keys[order], rows[order]
        first = np.ones(len(keys), dtype=bool)
        first[1:] = keys[1:] != keys[:-1]
        sizes = np.diff(np.append(np.flatnonzero(first), len(keys)))
        shared = sizes > 1
        return cls(rows[np.repeat(shared, sizes)], np.concatenate(([0], np.cumsum(sizes[shared]))))

    @property
    def sizes(self) -> Ints:
        return np.diff(self.offsets)

    def where(self, keep: npt.NDArray[np.bool_]) -> "Buckets":
        sizes = self.sizes
        return Buckets(self.members[np.repeat(keep, sizes)], np.concatenate(([0], np.cumsum(sizes[keep]))))

    def each(self) -> Iterator[Ints]:
        """Yield the members of one bucket after the other, largest bucket first."""
        for i in np.argsort(-self.sizes, kind="stable").tolist():
            yield self.members[self.offsets[i] : self.offsets[i + 1]]

    def all_pairs(self) -> Iterator[tuple[Ints, Ints]]:
        """Yield all pairs of members of each bucket, in pieces of about PAIRS_AT_ONCE."""
        sizes, starts = self.sizes, self.offsets[:-1]
        for size in np.unique(sizes).tolist():
            one, two = np.triu_indices(size, 1)
            of_size = starts[sizes == size]
            step = max(1, PAIRS_AT_ONCE // len(one))
            for begin in range(0, len(of_size), step):
                places = of_size[begin : begin + step, None]
                yield self.members[places + one].ravel(), self.members[places + two].ravel()


class SimilarSets:
    """Sets of 64-bit hashes, and their components so far.

    `values`, `offsets` int64: set i is values[offsets[i]:offsets[i + 1]], sorted and without repetitions, not empty.
    `signs` int64 (sets,): two sets with different ones other than 0 are not similar, whatever they have in common.
    `sizes` int64 (sets,). `matrix`: sets x those values that two sets or more contain (no other can be common).
    `listed` and `compared` count the candidate pairs that were listed and those whose sets were compared.
    """

    def __init__(self, values: Ints, offsets: Ints, similarity: float, signs: Ints | None = None) -> None:
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
        self._parents: Ints = np.arange(len(self.sizes))

    @property
    def labels(self) -> Ints:
        """First set (smallest index) of each set's component; int64 (sets,)."""
        return self.labels_of(np.arange(len(self.sizes)))

    def labels_of(self, rows: Ints) -> Ints:
        """Return the first set of the component of each of `rows`."""
        found = self._parents[rows]
        while True:
            above = self._parents[found]
            if np.array_equal(above, found):
                self._parents[rows] = found
                return found
            found = above

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
                self._join(one[similar], two[similar])
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

    def _join(self, first: Ints, second: Ints) -> None:
        """Connect pairs, in time proportional to their number and not to that of all sets."""
        if not len(first):
            return
        ends = self.labels_of(np.concatenate((first, second)))
        nodes, places = np.unique(ends, return_inverse=True)
        edges = (np.ones(len(first), dtype=np.int8), (places[: len(first)], places[len(first) :]))
        _, component = connected_components(coo_array(edges, shape=(len(nodes), len(nodes))), directed=False)
        _, smallest = np.unique(component, return_index=True)
        self._parents[nodes] = nodes[smallest[component]]

    def in_pieces(self, buckets: Buckets) -> Buckets:
        """Return the buckets whose members are not all connected."""
        if not len(buckets.members):
            return buckets
        labels, starts = self.labels_of(buckets.members), buckets.offsets[:-1]
        return buckets.where(np.minimum.reduceat(labels, starts) != np.maximum.reduceat(labels, starts))

    def connect_small(self, buckets: Buckets) -> None:
        """Connect all similar pairs of members of a bucket, comparing all that are not connected yet."""
        buckets = self.in_pieces(buckets)
        self.connect(np.repeat(buckets.members[buckets.offsets[:-1]], buckets.sizes), buckets.members)
        for first, second in self.in_pieces(buckets).all_pairs():
            self.connect(first, second)


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
