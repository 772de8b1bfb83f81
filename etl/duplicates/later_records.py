"""Comparison of later records with earlier runs: copies and near-copies of records that are there already.

Earlier records keep their status, their cluster and their split; only the signatures that later texts are compared
with are read again.
"""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.config import Configuration

BROADCAST_KEYS = 10_000_000
SPLIT_CONFLICT = "split_conflict"
"""Reason of new records that belong together with earlier ones of different splits."""


@dataclass(frozen=True)
class Earlier:
    """Frames of the earlier runs."""

    signatures: DataFrame
    """Columns of silver/signatures."""
    ledger: DataFrame
    """Columns of silver/ledger: every record with its status, cluster and split."""
    conflicts: int = 0
    """Records that would be kept under other splits."""


def to_compare(new: DataFrame, earlier: Earlier, of_texts: DataFrame) -> DataFrame:
    """Return the signatures to search for clusters of new texts; `of_texts`: see `clusters_of_texts`.

    Earlier texts without a cluster belong to records that were left out: a later copy counts as new, and may stay.
    """
    unknown = new.join(of_texts.select("content_hash"), "content_hash", "left_anti")
    placed = earlier.signatures.join(of_texts.select("content_hash"), "content_hash", "left_semi")
    return unknown.unionByName(to_compare_with(unknown, placed))


def to_compare_with(new: DataFrame, earlier: DataFrame) -> DataFrame:
    """Return the earlier signatures that share a band with a new one; both frames are as silver/signatures."""
    keys = new.select(F.explode("bands").alias("band")).distinct()
    if keys.count() <= BROADCAST_KEYS:
        keys = F.broadcast(keys)
    # Only hashes of texts come out of it: the shingles stay where they are.
    sharing = earlier.select("content_hash", F.explode("bands").alias("band")).join(keys, "band", "left_semi")
    return earlier.join(sharing.select("content_hash").distinct(), "content_hash", "left_semi")


def clusters_of_texts(earlier: Earlier) -> DataFrame:
    """Select `content_hash`, `earlier_cluster` (its representative's) and `of_split` of earlier texts in a cluster."""
    clusters = earlier.ledger.where("cluster_id IS NOT NULL").select(
        "record_id", F.col("cluster_id").alias("earlier_cluster")
    )
    splits = earlier.ledger.where("split IS NOT NULL").groupBy(F.col("cluster_id").alias("earlier_cluster"))
    return (
        earlier.signatures.select("record_id", "content_hash")
        .join(clusters, "record_id")
        .drop("record_id")
        .join(splits.agg(F.min("split").alias("of_split")), "earlier_cluster", "left")
    )


def earlier_clusters(components: DataFrame, texts: DataFrame, of_texts: DataFrame) -> DataFrame:
    """Return `content_hash`, `earlier_cluster`, `splits`, `is_copy` of new texts that belong to an earlier cluster.

    `components`: columns `member`, `component` over new and earlier texts; `texts`: those of the new records;
    `of_texts`: the result of `clusters_of_texts`. Of several clusters the one with the smallest name counts; `splits`
    are those of all of them.
    """
    alone = F.when(F.col("of_split").isNull(), F.array().cast("array<string>")).otherwise(F.array("of_split"))
    copies = (
        texts.select("content_hash")
        .join(of_texts, "content_hash")
        .select("content_hash", "earlier_cluster", alone.alias("splits"), F.lit(True).alias("is_copy"))
    )
    member = F.col("member").alias("content_hash")
    named = components.select(member, "component").join(of_texts, "content_hash")
    first = named.groupBy("component").agg(
        F.min("earlier_cluster").alias("earlier_cluster"), F.collect_set("of_split").alias("splits")
    )
    near = (
        components.select(member, "component")
        .join(first, "component")
        .join(texts.select("content_hash"), "content_hash", "left_semi")
        .join(copies.select("content_hash"), "content_hash", "left_anti")
        .select("content_hash", "earlier_cluster", "splits", F.lit(False).alias("is_copy"))
    )
    return copies.unionByName(near)


def count_conflicts(records: DataFrame, joined: DataFrame, config: Configuration) -> int:
    """Return the number of new records that belong to clusters of several splits, and would be kept under others.

    Where duplicates are dropped, a near-copy of an earlier record would be left out under any splits.
    """
    if config.deduplicate.duplicates == "drop":
        return 0
    torn = joined.where(F.size("splits") > 1).select("content_hash")
    return records.join(torn, "content_hash", "left_semi").count()
