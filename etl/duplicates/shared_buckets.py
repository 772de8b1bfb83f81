"""LSH buckets that two texts or more share, found by sorting bucket keys in numpy.

Nearly all buckets of a large corpus hold one text. So none becomes a Spark row before it is known to be shared: keys
travel packed, one value for each batch of texts and part (etl/duplicates/hash_lists.py), and a task sorts the keys of
a part. A part holds about AT_A_TIME keys whatever the size of the corpus, unless a single bucket is larger.

A text is identified by 64 bits of its hash here. Two texts with equal bits are taken for one in deciding which could
resemble each other: that only means more comparisons. (Two that resemble each other, have the same 64 bits and
resemble no third would be missed: one in a million similar pairs, in 10¹³ data sets.)
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from etl.duplicates.hash_lists import packed, unpacked
from etl.spark.partitions import salts

AT_A_TIME = 1 << 21
"""Keys that a task sorts at a time: some 150 MB of its memory, twice that where all of them are shared."""
ROWS_OF_A_BATCH = 1 << 16

Ints = npt.NDArray[np.int64]
Batches = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

_PARCELS = "salt int, texts binary, buckets binary"
_SHARED = "text long, bucket long, first long"


def short_hash() -> Column:
    """Return the 64 bits of `content_hash` that identify a text."""
    return F.xxhash64("content_hash")


def shared_buckets(signatures: DataFrame, keys_at_a_time: int = AT_A_TIME) -> DataFrame:
    """Return all buckets with two texts or more as columns `text` (short_hash), `bucket`, `first`.

    `first` is the bucket's smallest `text`. `signatures` has `content_hash` (each once) and `bands` (bucket keys; none
    for a text without tokens).
    """
    spark = signatures.sparkSession
    keys = signatures.count() * bands_of_a_text(signatures)
    parts = max(2 * spark.sparkContext.defaultParallelism, math.ceil(keys / keys_at_a_time))
    # As many tasks as parts, and a part each: hashing would give some tasks several.
    named = signatures.select(short_hash().alias("text"), "bands")
    scattered = named.mapInArrow(scatter(salts(parts)), _PARCELS)
    return scattered.repartition(parts, "salt").mapInArrow(shared_in_parts, _SHARED)


def bands_of_a_text(signatures: DataFrame) -> int:
    """Return the number of bucket keys of a text, equal for all texts with tokens; 0 where there are none."""
    first = signatures.select(F.size("bands").alias("bands")).where("bands > 0").first()
    return 0 if first is None else int(first["bands"])


def scatter(salt: list[int]) -> Batches:
    """Return the function for `mapInArrow` that makes parcels: for each batch and part one row of _PARCELS."""
    parts, salt_of = len(salt), np.asarray(salt, dtype=np.int32)

    def scattered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            bands = batch["bands"]
            keys = bands.flatten().to_numpy()
            if not len(keys):
                continue
            texts = np.repeat(batch["text"].to_numpy(), bands.value_lengths().to_numpy())
            # The upper bits of a key select its part.
            part = ((keys.view(np.uint64) >> np.uint64(32)) * np.uint64(parts) >> np.uint64(32)).astype(
                np.uint16 if parts < 1 << 16 else np.uint32
            )
            order = np.argsort(part, kind="stable")
            part = part[order]
            # Only parts that get anything, and the end.
            begins = np.flatnonzero(np.diff(part.astype(np.int64), prepend=-1, append=-1))
            used = part[begins[:-1]].astype(np.int32)
            columns = [pa.array(salt_of[used]), packed(texts[order], begins), packed(keys[order], begins)]
            yield pa.RecordBatch.from_arrays(columns, names=["salt", "texts", "buckets"])

    return scattered


def shared_in_parts(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the shared buckets of the parcels of one part, for `mapInArrow`."""
    texts: list[Ints] = []
    keys: list[Ints] = []
    for batch in batches:
        texts.append(unpacked(batch["texts"])[0].copy())
        keys.append(unpacked(batch["buckets"])[0].copy())
    if not keys:
        return
    members, buckets, firsts = _shared(_joined(texts), _joined(keys))
    for begin in range(0, len(buckets), ROWS_OF_A_BATCH):
        some = slice(begin, begin + ROWS_OF_A_BATCH)
        columns = [pa.array(members[some]), pa.array(buckets[some]), pa.array(members[firsts[some]])]
        yield pa.RecordBatch.from_arrays(columns, names=["text", "bucket", "first"])


def _joined(arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Concatenate arrays into one, and release them."""
    whole: npt.NDArray[Any] = np.concatenate(arrays)
    arrays.clear()
    return whole


def _shared(texts: Ints, keys: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the text, the key and the place of the key's first text, of each shared key and text, in that order."""
    order = np.argsort(keys)
    keys, texts = keys[order], texts[order]
    repeats = np.zeros(len(keys) + 1, dtype=bool)
    np.equal(keys[1:], keys[:-1], out=repeats[1:-1])
    shared = repeats[1:] | repeats[:-1]
    begins = np.flatnonzero(~repeats[:-1][shared])
    keys, texts = keys[shared], texts[shared]
    order = np.lexsort((texts, keys))
    return texts[order], keys[order], np.repeat(begins, np.diff(np.append(begins, len(keys))))
