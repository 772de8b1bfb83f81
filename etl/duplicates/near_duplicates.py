"""Clusters of near-duplicates among the signatures of distinct texts: LSH buckets, verified and connected.

Where all signatures fit into one block, one process compares them. Otherwise:

1. Texts that share a bucket are candidates; the connected components of "shares a bucket" (over 64 bits of
   their hashes, nothing else moves) say which texts ever have to be compared with each other.
2. Components are packed into blocks of about PACKED_SHINGLES shingle hashes. A task brings a block's sets together,
   each moved once, and connects what exact Jaccard similarity confirms (etl/duplicates/similarity.py).
3. A component of more than BLOCK_SHINGLES (boilerplate can glue a large part of a corpus together) is spread over
   blocks by bucket; there a set moves to each block that has one of its buckets, and the blocks' results are
   connected again. Buckets with the same smallest member lie in the same block: what has much in common has it in
   most bands, so that its sets move a few times and not once a band.

The result is that of comparing every two texts that share a bucket; it depends on neither order nor partitioning.
"""

import math
from contextlib import ExitStack

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from etl.duplicates.components import components
from etl.duplicates.hash_lists import Ints, unpacked
from etl.duplicates.large_buckets import connect_buckets
from etl.duplicates.shared_buckets import bands_of_a_text, shared_buckets, short_hash
from etl.duplicates.similarity import Buckets, SimilarSets
from etl.spark.persist import LEVEL, persisted

BLOCK_SHINGLES = 1 << 23  # 64 MB of hashes, some 300 MB of a task's memory
"""Size of a component beyond which it is spread over several blocks."""
PACKED_SHINGLES = 1 << 21
"""Approximate size of a block of smaller components: tasks stay small, however large the data set is."""
SMALL_BLOCK = 1 << 20
FEWEST_SHINGLES = 32
"""Lower estimate for a text, which only serves to recognise large data sets without reading them."""
BROADCAST_TEXTS = 2_000_000
"""Candidates (some 200 MB) that may go to every executor."""
_BLOCK = ("block", "text_hash", "signs", "bands", "shingles")
_FOUND = "text_hash binary, component binary"


def near_duplicate_clusters(
    signatures: DataFrame, similarity: float, block_shingles: int = BLOCK_SHINGLES
) -> DataFrame:
    """Return columns `member`, `component` (text hashes) for each text that has a near-duplicate.

    `signatures` has the columns of silver/signatures; `component` is the smallest member. Signatures that fit into
    one block are compared on the driver: a cluster has nothing to gain there.
    """
    # The first test costs nothing; the second reads all shingles, which with many texts only shows that they are
    # many.
    if signatures.count() <= block_shingles // FEWEST_SHINGLES and _shingles(signatures) <= block_shingles:
        found = connect_block(signatures.select(*_BLOCK[1:]).toArrow(), similarity)
        return signatures.sparkSession.createDataFrame(found.rename_columns(["member", "component"]))
    return _clusters_by_blocks(signatures, similarity, block_shingles)


def _clusters_by_blocks(signatures: DataFrame, similarity: float, block_shingles: int) -> DataFrame:
    with ExitStack() as stack:
        shared = stack.enter_context(persisted(shared_buckets(signatures)))
        candidates = components(shared.select("first", "text")).withColumnRenamed("member", "text")
        if candidates.count() <= BROADCAST_TEXTS:
            # So the shingles of texts that resemble no other stay where they are.
            candidates = F.broadcast(candidates)
        # Read once, and only for texts that have to be compared.
        named = signatures.withColumn("text", short_hash())
        compared = stack.enter_context(persisted(named.join(candidates, "text", how="inner")))
        sized = compared.groupBy("component").agg(F.sum(_count("shingles")).alias("shingles"))
        small = sized.where(F.col("shingles") <= block_shingles)
        packed, large = _totals(sized, block_shingles)
        # Enough blocks for all cores, unless they would be tiny.
        cores = signatures.sparkSession.sparkContext.defaultParallelism
        of_a_block = min(block_shingles, PACKED_SHINGLES, max(SMALL_BLOCK, math.ceil(packed / (2 * cores))))
        blocks = max(1, math.ceil(packed / of_a_block))
        rows = (
            compared.join(small.select("component"), "component", how="inner")
            .withColumn("block", F.pmod(F.xxhash64("component"), F.lit(blocks)))
            .select(*_BLOCK)
        )
        if not large:
            # Now, while its input is persisted.
            return _connected(rows, similarity).localCheckpoint(storageLevel=LEVEL)
        parts = max(1, math.ceil(large * bands_of_a_text(signatures) / block_shingles))
        spread = (
            shared.join(candidates, "text", how="inner")
            .join(small, "component", how="left_anti")
            .groupBy("text", (F.pmod(F.xxhash64("first"), F.lit(parts)) + F.lit(blocks)).alias("block"))
            .agg(F.collect_list("bucket").alias("bands"))
        )
        rows = rows.unionByName(
            spread.join(
                compared.select("text", "text_hash", "signs", "shingles"), "text", how="inner"
            ).select(*_BLOCK)
        )
        return components(_connected(rows, similarity))


def _count(lists: str) -> Column:
    """Count the hashes of a packed list."""
    return F.octet_length(lists) / 8


def _shingles(signatures: DataFrame) -> int:
    total = signatures.agg(F.sum(_count("shingles"))).first()
    return 0 if total is None else int(total[0] or 0)


def _totals(sized: DataFrame, block_shingles: int) -> tuple[int, int]:
    """Return the numbers of shingles in components that fit into a block, and in larger ones."""
    fits = F.col("shingles") <= block_shingles
    sums = sized.agg(
        F.sum(F.when(fits, F.col("shingles"))).alias("packed"),
        F.sum(F.when(~fits, F.col("shingles"))).alias("large"),
    ).first()
    assert sums is not None
    return int(sums["packed"] or 0), int(sums["large"] or 0)


def _connected(rows: DataFrame, similarity: float) -> DataFrame:
    """Return columns `member`, `component` of texts connected within a block; other texts are left out."""

    def connect(block: pa.Table) -> pa.Table:
        return connect_block(block, similarity)

    found = rows.groupBy("block").applyInArrow(connect, _FOUND)
    return found.select(F.col("text_hash").alias("member"), "component")


def connect_block(block: pa.Table, similarity: float) -> pa.Table:
    """Return columns `text_hash`, `component` from a block's `text_hash`, `signs`, `bands` (keys) and `shingles`."""
    # The shingles are most of a task's memory: they are not sorted, and copied once where they come in several batches.
    hashes, bands = (block[name].combine_chunks() for name in ("text_hash", "bands"))
    sets = SimilarSets(*unpacked(block["shingles"]), similarity, block["signs"].to_numpy())
    rows = np.repeat(np.arange(len(hashes)), pc.list_value_length(bands).to_numpy())
    buckets = Buckets.of(bands.flatten().to_numpy(), rows)
    del rows
    connect_buckets(sets, buckets)
    labels = sets.labels
    connected = np.flatnonzero(np.bincount(labels, minlength=len(labels))[labels] > 1)
    return pa.table(
        {
            "text_hash": hashes.take(pa.array(connected)),
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
