"""Clusters of duplicates whose records have different labels, and what `deduplicate.label_conflicts` makes of them.

- `survivor`: what it makes of any other cluster.
- `keep`: all of their records are kept, whatever `deduplicate.duplicates` says; they lie in one split.
- `drop`: none is; their status is `filtered`, with the reason LABEL_CONFLICT.
- `majority`: records with the most frequent label come first in the choice of the survivor. Of labels that are equally
  frequent, that one counts whose first record comes first by `deduplicate.survivor`. With `duplicates = "keep"` records
  of other labels are filtered with the reason LABEL_CONFLICT.

A record without a label contradicts none. Every policy but `survivor` judges a cluster as a whole, and later records
may change the judgement: then `deduplicate` compares all texts anew instead of the new ones alone.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.config import Configuration

LABEL_CONFLICT = "label_conflict"
"""Reason of records that are left out because copies of their text have other labels."""


def settles(config: Configuration) -> bool:
    """Return True where contradictory clusters are treated in another way than other clusters."""
    return config.columns.label is not None and config.deduplicate.label_conflicts != "survivor"


def contested(records: DataFrame, clusters: DataFrame, rank: Column) -> DataFrame:
    """Return `content_hash`, `component`, `majority` (a label) for each text of a cluster with several labels.

    `records`: columns `content_hash`, `label` and those of `rank`, the order in which records survive; `clusters`:
    columns `member`, `component` of contents that have near-duplicates.
    """
    members = clusters.select(F.col("member").alias("content_hash"), "component")
    named = records.join(members, "content_hash", "left").withColumn(
        "component", F.coalesce("component", "content_hash")
    )
    counted = (
        named.where("label IS NOT NULL")
        .groupBy("component", "label")
        .agg(F.count("*").alias("records"), F.min(rank).alias("first"))
    )
    most = F.min(F.struct(-F.col("records"), "first", "label"))
    several = counted.groupBy("component").agg(F.count("*").alias("labels"), most.alias("most"))
    found = several.where("labels > 1").select("component", F.col("most.label").alias("majority"))
    return named.select("content_hash", "component").distinct().join(found, "component")


def with_majority(survivors: DataFrame, records: DataFrame, contested: DataFrame, rank: Column) -> DataFrame:
    """Return the survivors with those of contested clusters chosen among the records of the majority first."""
    other = F.col("label").isNull() | (F.col("label") != F.col("majority"))
    ranked = records.join(contested, "content_hash").select(
        "content_hash", "component", F.struct(other.alias("other"), rank.alias("rank")).alias("order")
    )
    of_texts = ranked.groupBy("content_hash", "component").agg(F.min("order").alias("order"))
    of_clusters = of_texts.groupBy("component").agg(F.min("order").alias("first"))
    chosen = of_texts.join(of_clusters, "component").select(
        "content_hash",
        F.col("order.rank.record_id").alias("own"),
        F.col("first.rank.record_id").alias("of_cluster"),
    )
    return survivors.join(chosen, "content_hash", "left").select(
        "content_hash",
        F.coalesce("own", "representative").alias("representative"),
        F.coalesce("of_cluster", "survivor").alias("survivor"),
    )


def settled(
    status: Column, reason: Column, majority: Column, label: Column, config: Configuration
) -> tuple[Column, Column]:
    """Return status and reason of records by the policy; `majority` is null for those of other clusters."""
    policy, is_contested = config.deduplicate.label_conflicts, majority.isNotNull()
    if policy == "keep":
        return F.when(is_contested, "kept").otherwise(status), F.when(~is_contested, reason)
    left_out = is_contested
    if policy == "majority":
        left_out = is_contested & (label.isNull() | (label != majority))
        if config.deduplicate.duplicates == "drop":
            return status, reason
    return (
        F.when(left_out, "filtered").otherwise(status),
        F.when(left_out, LABEL_CONFLICT).otherwise(reason),
    )
