"""Texts: equal once case, NFKC and white space are folded, and alike by the Jaccard similarity of their shingles."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from etl.duplicates.connecting import Buckets, Ints, components_of
from etl.duplicates.contents import Content, Highest
from etl.duplicates.equality import Equality
from etl.duplicates.hash_lists import packed, unpacked
from etl.duplicates.large_buckets import connect_buckets
from etl.duplicates.minhash import Banding, sketch
from etl.duplicates.similarity import SimilarSets
from schemas.config import Configuration


class Texts(Content):
    """Texts of one column."""

    def __init__(self, config: Configuration) -> None:
        super().__init__(config)
        self.banding = Banding.for_similarity(self.settings.similarity)
        self.equality = Equality.of(self.settings)

    def sketch(self, batch: pa.RecordBatch, seen: set[bytes]) -> Iterator[pa.Array]:
        texts = batch.column(0)
        sketches = sketch(texts, self.settings.shingle, self.banding, seen, self.equality)
        filled = sketches.offsets[1:] > sketches.offsets[:-1]
        band_offsets = pa.array([0, *(filled.cumsum() * self.banding.bands).tolist()], pa.int32())
        yield pc.fill_null(pc.utf8_length(texts), 0).cast(pa.int32())
        yield pa.array(sketches.content_hash, pa.binary())
        yield pa.array(sketches.sketch_owner)
        yield pa.array(sketches.signs)
        yield pa.ListArray.from_arrays(band_offsets, sketches.bands.ravel())
        yield packed(sketches.values, sketches.offsets)

    def connect(self, block: pa.Table) -> pa.Table:
        return connect_block(block, self.settings.similarity)

    def highest(self, sample: pa.Table) -> Highest:
        """Return the function for the exact Jaccard similarity, 0 for two short texts with different signs."""
        return _Highest(sample["sketch"].combine_chunks(), sample["signs"].to_numpy())


def connect_block(block: pa.Table, similarity: float) -> pa.Table:
    """Return columns `content_hash`, `component` of a block; see `Content.connect`."""
    # The shingles are most of a task's memory: they are not sorted, and copied once where they come in several batches.
    hashes, bands = (block[name].combine_chunks() for name in ("content_hash", "bands"))
    sets = SimilarSets(*unpacked(block["sketch"]), similarity, block["signs"].to_numpy())
    buckets = Buckets.of_lists(bands)
    connect_buckets(sets, buckets)
    return components_of(sets, hashes)


class _Highest:
    """Highest similarity of each set of a sample to those of batches."""

    def __init__(self, sample: pa.Array, signs: Ints) -> None:
        values, offsets = unpacked(sample)
        self.signs, self.sizes = signs, np.diff(offsets)
        self.vocabulary = np.unique(values)
        codes = np.searchsorted(self.vocabulary, values)
        shape = (len(offsets) - 1, len(self.vocabulary))
        ones = np.ones(len(codes), dtype=np.int32)
        self.by_shingle = csr_array((ones, codes, offsets), shape=shape).T.tocsr()

    def __call__(self, batch: pa.RecordBatch) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        highest = np.zeros(len(self.sizes))
        if not len(self.vocabulary):
            return highest
        values, offsets = unpacked(batch["sketch"])
        places = np.minimum(np.searchsorted(self.vocabulary, values), len(self.vocabulary) - 1)
        known = self.vocabulary[places] == values
        kept = np.concatenate(([0], np.cumsum(known)))[offsets]
        ones = np.ones(int(kept[-1]), dtype=np.int32)
        sets = csr_array((ones, places[known], kept), shape=(len(offsets) - 1, len(self.vocabulary)))
        common = (sets @ self.by_shingle).tocoo()
        row, column = common.coords
        union = np.diff(offsets)[row] + self.sizes[column] - common.data
        one, other = batch["signs"].to_numpy()[row], self.signs[column]
        similar = np.where((one == other) | (one == 0) | (other == 0), common.data / union, 0.0)
        np.maximum.at(highest, column, similar)
        return highest
