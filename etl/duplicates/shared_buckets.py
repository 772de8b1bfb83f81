"""LSH buckets that two texts or more share, found by sorting bucket keys in numpy.

Of a large corpus' buckets nearly all hold one text. So none becomes a row of Spark's before it is known to be shared:
keys travel packed, those of a batch of texts that go to the same part in one value (etl/duplicates/hash_lists.py), and
a task sorts those of a part. A part holds about AT_A_TIME keys whatever the size of the corpus, unless a single bucket
is larger than that.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from etl.duplicates.hash_lists import packed, unpacked
from etl.partitions import salts

AT_A_TIME = 1 << 21
"""Keys that a task sorts at a time: 160 MB of its memory, twice that where all of them are shared."""
ROWS_OF_A_BATCH = 1 << 16
HASH = "V16"
"""The type of a text's hash: 16 bytes."""

Ints = npt.NDArray[np.int64]
Batches = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

_PARCELS = "salt int, text_hashes binary, owners binary, buckets binary"
_SHARED = "text_hash binary, bucket long, first binary"


def shared_buckets(signatures: DataFrame, keys_at_a_time: int = AT_A_TIME) -> DataFrame:
    """Columns `text_hash`, `bucket`, `first` (the bucket's smallest member) of all buckets with two texts or more.

    `signatures` has `text_hash` (16 bytes, each once) and `bands` (bucket keys; a text without tokens has none).
    """
    spark = signatures.sparkSession
    keys = signatures.count() * bands_of_a_text(signatures)
    parts = max(2 * spark.sparkContext.defaultParallelism, math.ceil(keys / keys_at_a_time))
    # As many tasks as parts, and a part each: hashing would give some tasks several.
    scattered = signatures.select("text_hash", "bands").mapInArrow(scatter(salts(spark, parts)), _PARCELS)
    return scattered.repartition(parts, "salt").mapInArrow(shared_in_parts, _SHARED)


def bands_of_a_text(signatures: DataFrame) -> int:
    """How many bucket keys a text has: all the same number, but those without tokens; 0 where there are no others."""
    first = signatures.select(F.size("bands").alias("bands")).where("bands > 0").first()
    return 0 if first is None else int(first["bands"])


def scatter(salt: list[int]) -> Batches:
    """The function for `mapInArrow` that makes parcels: for each batch and part one row of _PARCELS."""
    parts, salt_of = len(salt), np.asarray(salt, dtype=np.int32)

    def scattered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            bands = batch["bands"]
            keys = bands.flatten().to_numpy()
            owners = np.repeat(np.arange(len(bands), dtype=np.int32), bands.value_lengths().to_numpy())
            # The upper bits of a key say where it goes.
            part = ((keys.view(np.uint64) >> np.uint64(32)) * np.uint64(parts) >> np.uint64(32)).astype(
                np.uint16 if parts < 1 << 16 else np.uint32
            )
            order = np.argsort(part, kind="stable")  # the keys of a text stay together
            keys, owners, part = keys[order], owners[order], part[order]
            new = np.ones(len(part) + 1, dtype=bool)
            np.not_equal(part[1:], part[:-1], out=new[1:-1])
            begins = np.flatnonzero(new)  # of the parts that get anything, and the end
            new[1:-1] |= owners[1:] != owners[:-1]
            number = np.cumsum(new) - 1  # of the text among all that are sent
            hashes = unpacked(batch["text_hash"], HASH)[0][owners[new[:-1]]]
            within = number[:-1] - np.repeat(number[begins[:-1]], np.diff(begins))
            used = part[begins[:-1]].astype(np.int32)
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array(salt_of[used]),
                    packed(hashes, number[begins]),
                    packed(within.astype("<i4"), begins),
                    packed(keys, begins),
                ],
                names=["salt", "text_hashes", "owners", "buckets"],
            )

    return scattered


def shared_in_parts(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The shared buckets of the parcels of one part, for `mapInArrow`."""
    hashes: list[npt.NDArray[np.void]] = []
    owners: list[npt.NDArray[Any]] = []
    keys: list[Ints] = []
    texts = 0
    for batch in batches:
        held, sent = unpacked(batch["text_hashes"], HASH)
        owned, ends = unpacked(batch["owners"], "<i4")
        # Those of a parcel count from its first text.
        owners.append(owned + np.repeat((texts + sent[:-1]).astype(np.int32), np.diff(ends)))
        hashes.append(held.copy())
        keys.append(unpacked(batch["buckets"])[0].copy())
        texts += len(held)
    if not keys:
        return
    members, buckets, firsts = _shared(_joined(hashes), _joined(owners), _joined(keys))
    for begin in range(0, len(buckets), ROWS_OF_A_BATCH):
        some = slice(begin, begin + ROWS_OF_A_BATCH)
        yield pa.RecordBatch.from_arrays(
            [_binary(members[some]), pa.array(buckets[some]), _binary(members[firsts[some]])],
            names=["text_hash", "bucket", "first"],
        )


def _joined(arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """One array out of several, which are let go."""
    whole: npt.NDArray[Any] = np.concatenate(arrays)
    arrays.clear()
    return whole


def _shared(
    hashes: npt.NDArray[np.void], owners: npt.NDArray[np.int32], keys: Ints
) -> tuple[npt.NDArray[np.void], Ints, Ints]:
    """From bucket keys and the places in `hashes` of the texts that have them: of each shared key and text, ordered by
    both, the text's hash, the key, and the place of the key's first text.
    """
    order = np.argsort(keys)
    keys, owners = keys[order], owners[order]
    repeats = np.zeros(len(keys) + 1, dtype=bool)
    np.equal(keys[1:], keys[:-1], out=repeats[1:-1])
    shared = repeats[1:] | repeats[:-1]
    begins = np.flatnonzero(~repeats[:-1][shared])
    keys, members = keys[shared], hashes[owners[shared]]
    # Binary values are ordered by their bytes, the first decides.
    halves = members.view(">u8").reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0], keys))
    return members[order], keys[order], np.repeat(begins, np.diff(np.append(begins, len(keys))))


def _binary(hashes: npt.NDArray[np.void]) -> pa.Array:
    return packed(hashes, np.arange(len(hashes) + 1, dtype=np.int64))
