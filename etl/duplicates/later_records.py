"""Later records beside those of earlier runs: what is a copy or a near-copy of one that is there already.

Earlier records keep their status, their cluster and their split; nothing about them is computed again but what the
signatures of later texts are compared with.
"""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.config import Configuration

BROADCAST_KEYS = 10_000_000
SPLIT_CONFLICT = "split_conflict"
"""The reason of new records that belong together with earlier ones of different splits."""


@dataclass(frozen=True)
class Earlier:
    """Frames of the earlier runs."""

    signatures: DataFrame
    """As silver/signatures."""
    ledger: DataFrame
    """As silver/ledger, every record with its status, cluster and split."""
    conflicts: int = 0
    """Records that would be kept with other splits."""


def to_compare(new: DataFrame, earlier: Earlier, of_texts: DataFrame) -> DataFrame:
    """The signatures among which clusters of new texts are looked for; `of_texts`: see `clusters_of_texts`.

    Earlier texts without a cluster belong to records that were left out: a later copy counts as new, and may stay.
    """
    unknown = new.join(of_texts.select("text_hash"), "text_hash", "left_anti")
    placed = earlier.signatures.join(of_texts.select("text_hash"), "text_hash", "left_semi")
    return unknown.unionByName(to_compare_with(unknown, placed))


def to_compare_with(new: DataFrame, earlier: DataFrame) -> DataFrame:
    """The earlier signatures that share a band with a new one; both frames have the columns of silver/signatures."""
    keys = new.select(F.explode("bands").alias("band")).distinct()
    if keys.count() <= BROADCAST_KEYS:
        keys = F.broadcast(keys)
    # Only hashes of texts come out of it: the shingles stay where they are.
    sharing = earlier.select("text_hash", F.explode("bands").alias("band")).join(keys, "band", "left_semi")
    return earlier.join(sharing.select("text_hash").distinct(), "text_hash", "left_semi")


def clusters_of_texts(earlier: Earlier) -> DataFrame:
    """Select `text_hash`, `earlier_cluster` (its representative's) and `of_split` of earlier texts that have them."""
    clusters = earlier.ledger.where("cluster_id IS NOT NULL").select(
        "record_id", F.col("cluster_id").alias("earlier_cluster")
    )
    splits = earlier.ledger.where("split IS NOT NULL").groupBy(F.col("cluster_id").alias("earlier_cluster"))
    return (
        earlier.signatures.select("record_id", "text_hash")
        .join(clusters, "record_id")
        .drop("record_id")
        .join(splits.agg(F.min("split").alias("of_split")), "earlier_cluster", "left")
    )


def earlier_clusters(components: DataFrame, texts: DataFrame, of_texts: DataFrame) -> DataFrame:
    """For each new text that belongs to an earlier cluster: `text_hash`, `earlier_cluster`, `splits`, `is_copy`.

    `components`: columns `member`, `component` over new and earlier texts; `texts`: those of the new records;
    `of_texts`: what `clusters_of_texts` gives. Of several clusters the one with the smallest name counts; `splits` are
    those of all of them.
    """
    alone = F.when(F.col("of_split").isNull(), F.array().cast("array<string>")).otherwise(F.array("of_split"))
    copies = (
        texts.select("text_hash")
        .join(of_texts, "text_hash")
        .select("text_hash", "earlier_cluster", alone.alias("splits"), F.lit(True).alias("is_copy"))
    )
    member = F.col("member").alias("text_hash")
    named = components.select(member, "component").join(of_texts, "text_hash")
    first = named.groupBy("component").agg(
        F.min("earlier_cluster").alias("earlier_cluster"), F.collect_set("of_split").alias("splits")
    )
    near = (
        components.select(member, "component")
        .join(first, "component")
        .join(texts.select("text_hash"), "text_hash", "left_semi")
        .join(copies.select("text_hash"), "text_hash", "left_anti")
        .select("text_hash", "earlier_cluster", "splits", F.lit(False).alias("is_copy"))
    )
    return copies.unionByName(near)


def count_conflicts(records: DataFrame, joined: DataFrame, config: Configuration) -> int:
    """The number of new records that belong to clusters of several splits, and would be kept with others.

    Where duplicates are dropped, what is near to an earlier record would be left out with any splits.
    """
    if config.deduplicate.duplicates == "drop":
        return 0
    torn = joined.where(F.size("splits") > 1).select("text_hash")
    return records.join(torn, "text_hash", "left_semi").count()
