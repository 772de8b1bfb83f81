"""Clusters of near-duplicates among the signatures of distinct contents: LSH buckets, verified and connected.

Where all signatures fit into one block, one process compares them. Otherwise:

1. Contents that share a bucket are candidates; the connected components of "shares a bucket" (over 64 bits of
   their hashes, nothing else moves) say which ever have to be compared with each other.
2. Components are packed into blocks of about PACKED_SIZE. A task brings a block's sketches together, each moved
   once, and connects what an exact comparison confirms (etl/duplicates/contents).
3. A component of more than BLOCK_SIZE (boilerplate can glue a large part of a corpus together) is spread over
   blocks by bucket; there a sketch moves to each block that has one of its buckets, and the blocks' results are
   connected again. Buckets with the same smallest member lie in the same block: what has much in common has it in
   most bands, so that its sketches move a few times and not once a band.

The result is that of comparing every two contents that share a bucket; it depends on neither order nor partitioning.
Sizes count 64-bit words of sketches, for texts the hashes of their shingles.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from etl.duplicates.components import components
from etl.duplicates.shared_buckets import bands_of_a_text, shared_buckets, short_hash
from etl.spark.persist import LEVEL, persisted

BLOCK_SIZE = 1 << 23  # 64 MB of hashes, some 300 MB of a task's memory
"""Size of a component beyond which it is spread over several blocks."""
PACKED_SIZE = 1 << 21
"""Approximate size of a block of smaller components: tasks stay small, however large the data set is."""
SMALL_BLOCK = 1 << 20
SMALLEST = 32
"""Lower estimate for a content, which only serves to recognise large data sets without reading them."""
BROADCAST_TEXTS = 2_000_000
"""Candidates (some 200 MB) that may go to every executor."""
_BLOCK = ("block", "content_hash", "signs", "bands", "sketch")
_FOUND = "content_hash binary, component binary"
Connect = Callable[[pa.Table], pa.Table]


def near_duplicate_clusters(
    signatures: DataFrame, connect: Connect, block_size: int = BLOCK_SIZE
) -> DataFrame:
    """Return columns `member`, `component` (content hashes) for each content that has a near-duplicate.

    `signatures` has the columns of silver/signatures; `component` is the smallest member. Signatures that fit into
    one block are compared on the driver: a cluster has nothing to gain there. `connect`: that of a `Content`.
    """
    # The first test costs nothing; the second reads all sketches, which where they are many only shows that.
    if signatures.count() <= block_size // SMALLEST and _total(signatures) <= block_size:
        found = connect(signatures.select(*_BLOCK[1:]).toArrow())
        return signatures.sparkSession.createDataFrame(found.rename_columns(["member", "component"]))
    return _clusters_by_blocks(signatures, connect, block_size)


def _clusters_by_blocks(signatures: DataFrame, connect: Connect, block_size: int) -> DataFrame:
    with ExitStack() as stack:
        shared = stack.enter_context(persisted(shared_buckets(signatures)))
        candidates = components(shared.select("first", "text")).withColumnRenamed("member", "text")
        if candidates.count() <= BROADCAST_TEXTS:
            # So the shingles of texts that resemble no other stay where they are.
            candidates = F.broadcast(candidates)
        # Read once, and only for texts that have to be compared.
        named = signatures.withColumn("text", short_hash())
        compared = stack.enter_context(persisted(named.join(candidates, "text", how="inner")))
        sized = compared.groupBy("component").agg(F.sum(_size("sketch")).alias("size"))
        small = sized.where(F.col("size") <= block_size)
        packed, large = _totals(sized, block_size)
        # Enough blocks for all cores, unless they would be tiny.
        cores = signatures.sparkSession.sparkContext.defaultParallelism
        of_a_block = min(block_size, PACKED_SIZE, max(SMALL_BLOCK, math.ceil(packed / (2 * cores))))
        blocks = max(1, math.ceil(packed / of_a_block))
        rows = (
            compared.join(small.select("component"), "component", how="inner")
            .withColumn("block", F.pmod(F.xxhash64("component"), F.lit(blocks)))
            .select(*_BLOCK)
        )
        if not large:
            # Now, while its input is persisted.
            return _connected(rows, connect).localCheckpoint(storageLevel=LEVEL)
        parts = max(1, math.ceil(large * bands_of_a_text(signatures) / block_size))
        spread = (
            shared.join(candidates, "text", how="inner")
            .join(small, "component", how="left_anti")
            .groupBy("text", (F.pmod(F.xxhash64("first"), F.lit(parts)) + F.lit(blocks)).alias("block"))
            .agg(F.collect_list("bucket").alias("bands"))
        )
        rows = rows.unionByName(
            spread.join(
                compared.select("text", "content_hash", "signs", "sketch"), "text", how="inner"
            ).select(*_BLOCK)
        )
        return components(_connected(rows, connect))


def _size(lists: str) -> Column:
    """Count the 64-bit words of sketches."""
    return F.octet_length(lists) / 8


def _total(signatures: DataFrame) -> int:
    total = signatures.agg(F.sum(_size("sketch"))).first()
    return 0 if total is None else int(total[0] or 0)


def _totals(sized: DataFrame, block_size: int) -> tuple[int, int]:
    """Return the sizes of all components that fit into a block, and of all larger ones."""
    fits = F.col("size") <= block_size
    sums = sized.agg(
        F.sum(F.when(fits, F.col("size"))).alias("packed"),
        F.sum(F.when(~fits, F.col("size"))).alias("large"),
    ).first()
    assert sums is not None
    return int(sums["packed"] or 0), int(sums["large"] or 0)


def _connected(rows: DataFrame, connect: Connect) -> DataFrame:
    """Return columns `member`, `component` of contents connected within a block; others are left out."""

    def connected(block: pa.Table) -> pa.Table:  # Spark counts the arguments of a method wrongly
        return connect(block)

    found = rows.groupBy("block").applyInArrow(connected, _FOUND)
    return found.select(F.col("content_hash").alias("member"), "component")
