"""Exact Jaccard similarity of shingle sets, and the components that near-duplicates form within LSH buckets.

Two members of a bucket are connected when their sets' Jaccard similarity reaches the threshold; every edge is
verified so. The components are complete: any two members of a bucket that are that similar end up in the same one,
whichever was compared first. What makes this cheap is that pairs already connected need no comparison:

1. Each bucket's first member is compared with all the others; large buckets that are still in pieces try further
   centres. This joins most of what belongs together in time proportional to the members.
2. What is left in pieces is compared across the pieces, never only among the left-overs: a member that its centre
   does not resemble may resemble one that it does. In small buckets all such pairs are compared; in large ones
   those that share one of their rarest shingles, which every similar pair must (prefix filter: Chaudhuri, Ganti and
   Kaushik 2006, "A primitive operator for similarity joins in data cleaning"; Xiao et al. 2008, "Efficient
   similarity joins for near duplicate detection").
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

Ints = npt.NDArray[np.int64]

SMALL_BUCKET = 64  # members; up to here all pairs are compared
CENTRES = 4  # that a larger bucket tries
COMPARED_AT_ONCE = 1 << 22  # shingles gathered for a chunk of pairs
PAIRS_AT_ONCE = 1 << 21  # candidate pairs held in memory
SLACK = 1e-9  # against rounding where a bound may only ever be too generous


@dataclass(frozen=True)
class Buckets:
    """LSH buckets: those of `members[offsets[i]:offsets[i + 1]]`, indices of sets; each at least two; int64."""

    members: Ints
    offsets: Ints

    @classmethod
    def of(cls, keys: Ints, rows: Ints) -> "Buckets":
        """From pairs (bucket key, row); buckets of one member are left out."""
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


class SimilarSets:
    """Sets of 64-bit hashes, and which of them are connected so far.

    `values`, `offsets` int64: set i is values[offsets[i]:offsets[i + 1]], sorted and without repetitions, not empty.
    `labels` int64 (sets,): equal for connected ones.
    """

    def __init__(self, values: Ints, offsets: Ints, similarity: float) -> None:
        _, codes = np.unique(values, return_inverse=True)
        self.sizes: Ints = np.diff(offsets)
        count = len(self.sizes)
        width = int(codes.max(initial=-1)) + 1
        ones = np.ones(len(codes), dtype=np.int8)
        self.matrix = csr_array((ones, codes.astype(np.int32), offsets), shape=(count, width))
        self.similarity = similarity
        self.labels: Ints = np.arange(count)
        self.compared = 0

    def similarities(self, first: Ints, second: Ints) -> npt.NDArray[np.float64]:
        """The Jaccard similarity of each pair of sets, shape (pairs,)."""
        common = (self.matrix[first] * self.matrix[second]).indptr
        intersection = np.diff(common)
        self.compared += len(first)
        similarities: npt.NDArray[np.float64] = intersection / (
            self.sizes[first] + self.sizes[second] - intersection
        )
        return similarities

    def connect(self, first: Ints, second: Ints) -> None:
        """Compares the pairs that are not connected and could be similar by their sizes; connects the similar ones."""
        pairs = np.unique(self._open(np.minimum(first, second), np.maximum(first, second)))
        while len(pairs):
            first, second = np.divmod(pairs, len(self.sizes))
            work = np.cumsum(self.sizes[first] + self.sizes[second])
            now = max(1, int(np.searchsorted(work, COMPARED_AT_ONCE)))
            one, two = first[:now], second[:now]
            similar = self.similarities(one, two) >= self.similarity
            self._join(one[similar], two[similar])
            pairs = self._open(first[now:], second[now:])

    def _open(self, first: Ints, second: Ints) -> Ints:
        """The pairs that have to be compared, each as one number."""
        small = np.minimum(self.sizes[first], self.sizes[second])
        large = np.maximum(self.sizes[first], self.sizes[second])
        keep = (self.labels[first] != self.labels[second]) & (small >= self.similarity * large - SLACK)
        pairs: Ints = first[keep] * len(self.sizes) + second[keep]
        return pairs

    def _join(self, first: Ints, second: Ints) -> None:
        if not len(first):
            return
        count = len(self.labels)
        edges = (np.ones(len(first), dtype=np.int8), (self.labels[first], self.labels[second]))
        _, component = connected_components(coo_array(edges, shape=(count, count)), directed=False)
        self.labels = component[self.labels].astype(np.int64)

    def connect_buckets(self, buckets: Buckets) -> None:
        """Connects all pairs of members of a bucket that are similar, directly or by way of others."""
        for centre in range(CENTRES):
            if not len(buckets.members):
                return
            sizes = buckets.sizes
            centres = buckets.members[buckets.offsets[:-1] + centre * sizes // CENTRES]
            self.connect(np.repeat(centres, sizes), buckets.members)
            buckets = self._in_pieces(buckets)
            if centre == 0:
                small = buckets.sizes <= SMALL_BUCKET
                for first, second in _all_pairs(buckets.where(small)):
                    self.connect(first, second)
                buckets = self._in_pieces(buckets.where(~small))
        if len(buckets.members):
            for first, second in self._sharing_rare_shingles(np.unique(buckets.members)):
                self.connect(first, second)

    def _in_pieces(self, buckets: Buckets) -> Buckets:
        """The buckets whose members are not all connected."""
        if not len(buckets.members):
            return buckets
        labels, starts = self.labels[buckets.members], buckets.offsets[:-1]
        return buckets.where(np.minimum.reduceat(labels, starts) != np.maximum.reduceat(labels, starts))

    def _sharing_rare_shingles(self, rows: Ints) -> Iterator[tuple[Ints, Ints]]:
        """Pairs of `rows`, in pieces, that share a shingle of their prefixes: all similar ones are among them.

        With shingles in one order, rarest first, and similarity t, a set x and one y at least as large have at least
        2t/(1+t)·|x| and at least t·|y| shingles in common; so the first |x| - ceil(2t/(1+t)·|x|) + 1 of x and
        the first |y| - ceil(t·|y|) + 1 of y have one in common.
        """
        part = self.matrix[rows]
        sizes, shingles = np.diff(part.indptr), part.indices
        frequency = np.bincount(shingles, minlength=part.shape[1])
        owner = np.repeat(np.arange(len(rows)), sizes)
        order = np.lexsort((shingles, frequency[shingles], owner))
        shingles = shingles[order]
        place = np.arange(len(shingles)) - np.repeat(part.indptr[:-1], sizes)
        shared = frequency[shingles] > 1
        t = self.similarity
        as_larger = shared & (place <= (sizes - np.ceil(t * sizes - SLACK))[owner])
        as_smaller = shared & (place <= (sizes - np.ceil(2 * t / (1 + t) * sizes - SLACK))[owner])
        # Postings of each shingle, ordered by the size of their sets, so that one slice holds all not larger ones.
        rank = np.empty(len(rows), dtype=np.int64)
        rank[np.argsort(sizes, kind="stable")] = np.arange(len(rows))
        posting_keys = shingles[as_smaller].astype(np.int64) * len(rows) + rank[owner[as_smaller]]
        by_key = np.argsort(posting_keys)
        posting_keys, posting_rows = posting_keys[by_key], owner[as_smaller][by_key]
        probes, probe_shingles = owner[as_larger], shingles[as_larger].astype(np.int64)
        begin = np.searchsorted(posting_keys, probe_shingles * len(rows))
        counts = np.searchsorted(posting_keys, probe_shingles * len(rows) + rank[probes]) - begin
        done = 0
        totals = np.cumsum(counts)
        while done < len(probes):
            before = totals[done - 1] if done else 0
            end = max(done + 1, int(np.searchsorted(totals, before + PAIRS_AT_ONCE, side="right")))
            some = counts[done:end]
            within = np.arange(some.sum()) - np.repeat(np.cumsum(some) - some, some)
            found = posting_rows[np.repeat(begin[done:end], some) + within]
            yield rows[np.repeat(probes[done:end], some)], rows[found]
            done = end


def _all_pairs(buckets: Buckets) -> Iterator[tuple[Ints, Ints]]:
    """All pairs of members of each bucket, in pieces."""
    sizes, starts = buckets.sizes, buckets.offsets[:-1]
    for size in np.unique(sizes).tolist():
        one, two = np.triu_indices(size, 1)
        of_size = starts[sizes == size]
        step = max(1, PAIRS_AT_ONCE // len(one))
        for begin in range(0, len(of_size), step):
            places = of_size[begin : begin + step, None]
            yield buckets.members[places + one].ravel(), buckets.members[places + two].ravel()
