"""Components that similar items form within LSH buckets, whatever the items are.

Two members of a bucket are connected when they are similar; every edge is verified by the subclass. The components are
those of all such pairs that share a bucket, whichever was compared first and however the buckets are spread over tasks.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ints = npt.NDArray[np.int64]

SMALL_BUCKET = 64  # members; up to here all pairs are compared
PAIRS_AT_ONCE = 1 << 21  # candidate pairs held in memory


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

    @classmethod
    def of_lists(cls, keys: pa.Array) -> "Buckets":
        """Build buckets from the bucket keys of each row: list<int64>, without nulls."""
        rows = np.repeat(np.arange(len(keys)), pc.list_value_length(keys).to_numpy())
        return cls.of(keys.flatten().to_numpy(), rows)

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


class Connected(ABC):
    """Items, numbered from 0, and their components so far."""

    def __init__(self, count: int) -> None:
        self._parents: Ints = np.arange(count)

    @abstractmethod
    def connect(self, first: Ints, second: Ints) -> None:
        """Compare the pairs of items that are not connected, and connect the similar ones."""

    @property
    def labels(self) -> Ints:
        """First set (smallest index) of each set's component; int64 (sets,)."""
        return self.labels_of(np.arange(len(self._parents)))

    def labels_of(self, rows: Ints) -> Ints:
        """Return the first set of the component of each of `rows`."""
        found = self._parents[rows]
        while True:
            above = self._parents[found]
            if np.array_equal(above, found):
                self._parents[rows] = found
                return found
            found = above

    def join(self, first: Ints, second: Ints) -> None:
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

    def connect_across(self, rows: Ints, others: Ints) -> None:
        """Compare the pairs of one of `rows` and one of `others` that are not connected."""
        step = max(1, PAIRS_AT_ONCE // max(1, len(others)))
        for begin in range(0, len(rows), step):
            some = rows[begin : begin + step]
            self.connect(np.repeat(some, len(others)), np.tile(others, len(some)))

    def connect_all(self, rows: Ints) -> None:
        """Compare all pairs of `rows` that are not connected."""
        step = max(1, PAIRS_AT_ONCE // len(rows))
        for begin in range(0, len(rows), step):
            self.connect_across(rows[begin : begin + step], rows[begin:])

    def connect_buckets(self, buckets: Buckets) -> None:
        """Compare all pairs of members of a bucket that are not connected."""
        small = buckets.sizes <= SMALL_BUCKET
        for rows in self.in_pieces(buckets.where(~small)).each():
            self.connect_all(rows)
        self.connect_small(buckets.where(small))


def components_of(items: Connected, hashes: pa.Array) -> pa.Table:
    """Return columns `content_hash`, `component` of the items that are connected to another one.

    `hashes`: binary, that of each item; a component is named by its smallest.
    """
    labels = items.labels
    connected = np.flatnonzero(np.bincount(labels, minlength=len(labels))[labels] > 1)
    return pa.table(
        {
            "content_hash": hashes.take(pa.array(connected)),
            "component": hashes.take(pa.array(_smallest(hashes, labels)[connected])),
        }
    )


def _smallest(hashes: pa.Array, labels: Ints) -> Ints:
    """Return, for each row, the row of the smallest hash with the same label; int64 (rows,)."""
    order = pc.sort_indices(hashes).to_numpy().astype(np.int64)
    first = np.empty(len(labels), dtype=np.int64)
    # Of several values for one place the last stays: that of the smallest hash.
    first[labels[order[::-1]]] = order[::-1]
    return first[labels]
