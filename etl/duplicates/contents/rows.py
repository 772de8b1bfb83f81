"""Whole rows: equal in all columns but the id and the label, in the notation that `clean` brings values into.

With `[deduplicate.tolerance]`, rows are near-duplicates that lie within the tolerance in the columns it names, and are
equal in all others. Candidates are found by grids: a cell is two tolerances wide, and for each column there is a second
grid moved by one tolerance. Two values at most a tolerance apart share a cell of the first grid; or else the edge
between their cells is within a tolerance of both, and they share the cell of the second around it. No pair is missed.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from common.splitmix import GOLDEN, mix
from etl.duplicates.connecting import SMALL_BUCKET, Buckets, Connected, Ints, components_of
from etl.duplicates.contents import Content
from etl.duplicates.hash_lists import owners, packed, unpacked
from etl.normalisers.date import days
from schemas.config import Configuration
from schemas.features.date import DateFeature

WORDS_OF_OTHERS = 2
"""64-bit words of a sketch that hash the columns without a tolerance; those behind are the numbers of the others."""
SLACK = 1e-6
"""Part by which cells are wider than two tolerances, and the most of a tolerance that rounding may add to it."""


class Rows(Content):
    """All configured columns of a record but its id and its label."""

    def __init__(self, config: Configuration) -> None:
        super().__init__(config)
        dates = {feature.column for feature in config.feature if isinstance(feature, DateFeature)}
        near = [place for place, name in enumerate(self.columns) if name in self.settings.tolerance]
        self.near = {place: days if self.columns[place] in dates else float for place in near}
        """How to read the number of each column with a tolerance, by its place."""
        self.tolerances = np.array([self.settings.tolerance[self.columns[place]] for place in near])

    def sketch(self, batch: pa.RecordBatch, seen: set[bytes]) -> Iterator[pa.Array]:
        count = len(batch)
        columns = [column.to_pylist() for column in batch.columns]
        hashes = [row_hash(row) for row in zip(*columns, strict=True)]
        owning = owners(hashes, seen)
        yield pa.array(np.zeros(count, dtype=np.int32))
        yield pa.array(hashes, pa.binary())
        yield pa.array(owning)
        yield pa.array(np.zeros(count, dtype=np.int64))
        rows = np.flatnonzero(owning) if self.near else np.zeros(0, np.int64)
        words = self._words([[column[row] for row in rows.tolist()] for column in columns])
        bands = band_keys(words, self.tolerances)
        yield pa.ListArray.from_arrays(_ends(rows, bands.shape[1], count), bands.ravel())
        yield packed(words.ravel(), _ends(rows, words.shape[1], count).to_numpy().astype(np.int64))

    def _words(self, columns: Sequence[Sequence[str | None]]) -> Ints:
        """Return what is kept of rows, (rows, WORDS_OF_OTHERS + tolerances) int64, from the values of their columns."""
        numbers = np.zeros((len(columns[0]), len(self.near)))
        others = [list(column) for column in columns]
        for at, (place, number) in enumerate(self.near.items()):
            values = columns[place]
            numbers[:, at] = [0.0 if value is None else number(value) for value in values]
            # A missing value is near to missing ones alone.
            others[place] = [None if value is None else "" for value in values]
        digests = b"".join(row_hash(row) for row in zip(*others, strict=True))
        hashed = np.frombuffer(digests, "<i8").reshape(-1, WORDS_OF_OTHERS)
        return np.concatenate([hashed, numbers.view(np.int64)], axis=1)

    def connect(self, block: pa.Table) -> pa.Table:
        hashes, bands = (block[name].combine_chunks() for name in ("content_hash", "bands"))
        if not self.near:
            return components_of(NearRows(np.zeros((len(hashes), 0), np.int64), self.tolerances), hashes)
        words = unpacked(block["sketch"])[0].reshape(len(hashes), -1)
        rows, buckets = NearRows(words, self.tolerances), Buckets.of_lists(bands)
        rows.connect_neighbours(buckets)
        rows.connect_buckets(buckets)
        return components_of(rows, hashes)


class NearRows(Connected):
    """Distinct rows, and their components so far."""

    def __init__(self, words: Ints, tolerances: npt.NDArray[np.float64]) -> None:
        """Set up the rows from what `Rows` keeps of them."""
        super().__init__(len(words))
        self.others = words[:, :WORDS_OF_OTHERS]
        self.numbers = np.ascontiguousarray(words[:, WORDS_OF_OTHERS:]).view(np.float64)
        self.tolerances = tolerances

    def connect(self, first: Ints, second: Ints) -> None:
        apart = self.labels_of(first) != self.labels_of(second)
        first, second = first[apart], second[apart]
        one, two = self.numbers[first], self.numbers[second]
        # Decimal fractions have no exact binary form: 1.1 and 1.0 are 0.1 apart. Where the last bit of a number is
        # worth more than the tolerance, differences are those of float64.
        rounding = 2 * np.spacing(np.maximum(np.abs(one), np.abs(two)))
        rounding = np.minimum(rounding, SLACK * self.tolerances)
        near = (np.abs(one - two) <= self.tolerances + rounding).all(axis=1)
        near &= (self.others[first] == self.others[second]).all(axis=1)
        self.join(first[near], second[near])

    def connect_neighbours(self, buckets: Buckets) -> None:
        """Connect near rows that follow each other in the order of a column, in each large bucket.

        With one tolerance that is all, and with several it leaves few pieces whose pairs have to be compared.
        """
        for members in buckets.where(buckets.sizes > SMALL_BUCKET).each():
            for column in self.numbers.T:
                ordered = members[np.argsort(column[members], kind="stable")]
                self.connect(ordered[:-1], ordered[1:])


def band_keys(words: Ints, tolerances: npt.NDArray[np.float64]) -> Ints:
    """Return the key of the cell of each row in every grid, (rows, 2^tolerances) int64; none without tolerances."""
    if not len(tolerances):
        return np.zeros((len(words), 0), np.int64)
    numbers = np.ascontiguousarray(words[:, WORDS_OF_OTHERS:]).view(np.float64)
    width = 2 * tolerances * (1 + SLACK)
    keys = np.empty((len(words), 2 ** len(tolerances)), np.int64)
    for grid, moved in enumerate(itertools.product((0.0, 0.5), repeat=len(tolerances))):
        cells = np.floor(numbers / width + np.asarray(moved))
        key = mix(words[:, 0].view(np.uint64) + np.uint64(grid) + GOLDEN)
        for column in cells.T:
            key = mix((key ^ np.ascontiguousarray(column).view(np.uint64)) + GOLDEN)
        keys[:, grid] = key.view(np.int64)
    return keys


def _ends(rows: Ints, each: int, count: int) -> pa.Array:
    """Return the offsets of lists of `each` elements for some `rows` out of `count`, none for the others."""
    sizes = np.zeros(count, np.int32)
    sizes[rows] = each
    return pa.array(np.concatenate(([0], np.cumsum(sizes))), pa.int32())


def row_hash(values: tuple[str | None, ...]) -> bytes:
    """Return 128 bits (BLAKE2b, RFC 7693) of values, each after its length; a missing value has one of its own."""
    digest = hashlib.blake2b(digest_size=16)
    for value in values:
        encoded = b"" if value is None else value.encode()
        digest.update((-1 if value is None else len(encoded)).to_bytes(8, "little", signed=True) + encoded)
    return digest.digest()
