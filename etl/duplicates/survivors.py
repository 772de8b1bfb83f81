"""Survivor of each cluster, and the outcome of the other records."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from etl.duplicates.label_conflicts import settled
from etl.duplicates.later_records import SPLIT_CONFLICT
from etl.spark.skew import NO_HOT_KEYS, HotKeys, hot_keys, salted_join
from schemas.config import Configuration


def hot_texts_and_clusters(texts: DataFrame, clusters: DataFrame) -> tuple[HotKeys, HotKeys]:
    """Return the texts with very many copies, and the clusters with very many texts; persist both frames first."""
    sizes = clusters.groupBy("component").agg(F.count("*").alias("texts"))
    return hot_keys(texts.select("content_hash", "records")), hot_keys(sizes)


def with_survivor(texts: DataFrame, clusters: DataFrame, hot: HotKeys = NO_HOT_KEYS) -> DataFrame:
    """Return `content_hash` and the record_ids of its `representative` and its cluster's `survivor` for each distinct
    text.

    `clusters` has the columns `member` (a content_hash) and `component`, without texts that have no near-duplicates.
    `hot`: components with so many members that their records are salted.
    """
    ranked = texts.select(F.col("content_hash").alias("member"), "rank")
    first = F.min("rank").alias("first")
    firsts = clusters.join(ranked, "member", how="inner").groupBy("component").agg(first)
    survivors = salted_join(
        clusters, firsts.select("component", "first.record_id"), "component", "inner", hot, "member"
    ).select(F.col("member").alias("content_hash"), F.col("record_id").alias("survivor"))
    representative = F.col("rank.record_id")
    return texts.join(survivors, "content_hash", how="left").select(
        "content_hash",
        representative.alias("representative"),
        F.coalesce("survivor", representative).alias("survivor"),
    )


def build_clusters(
    fields: DataFrame,
    records: DataFrame,
    survivors: DataFrame,
    config: Configuration,
    hot: HotKeys = NO_HOT_KEYS,
    contested: DataFrame | None = None,
) -> DataFrame:
    """Return the rows of silver/clusters; `hot`: texts with so many copies that they are salted.

    `contested`: texts of clusters with several labels, where these are treated in another way than others.
    """
    is_survivor = F.col("record_id") == F.col("survivor")
    if config.deduplicate.duplicates == "keep":
        status, reason = F.lit("kept"), F.lit(None)
    else:
        is_representative = F.col("record_id") == F.col("representative")
        status = (
            F.when(is_survivor, "kept").when(is_representative, "near_duplicate").otherwise("exact_duplicate")
        )
        reason = F.when(~is_survivor, F.col("survivor"))
    copies = records.select("record_id", "source_path", "content_hash", "label")
    if contested is not None:
        survivors = survivors.join(contested.select("content_hash", "majority"), "content_hash", "left")
        status, reason = settled(status, reason, F.col("majority"), F.col("label"), config)
    compared = salted_join(copies, survivors, "content_hash", "inner", hot, "record_id").select(
        "record_id",
        F.col("source_path").alias("source"),
        status.alias("status"),
        reason.alias("reason"),
        F.col("survivor").alias("cluster_id"),
    )
    filtered = fields.where("filtered_by IS NOT NULL").select(
        "record_id",
        F.col("source_path").alias("source"),
        F.lit("filtered").alias("status"),
        F.col("filtered_by").alias("reason"),
        F.lit(None).alias("cluster_id"),
    )
    return compared.unionByName(filtered)


def clusters_of_joined(
    records: DataFrame, texts: DataFrame, joined: DataFrame, config: Configuration
) -> DataFrame:
    """Return the rows of silver/clusters of new records that belong to an earlier cluster, or to several."""
    none = F.lit(None).cast("string")
    # Whatever its split, a near-copy of it would be in another.
    conflict = F.size("splits") > 1
    if config.deduplicate.duplicates == "keep":
        status, reason = F.lit("kept"), none
    else:
        is_first = F.col("record_id") == F.col("rank.record_id")
        status = F.when(F.col("is_copy") | ~is_first, "exact_duplicate").otherwise("near_duplicate")
        reason = F.col("earlier_cluster")
    ranked = texts.select("content_hash", "rank")
    return (
        records.select("record_id", "source_path", "content_hash")
        .join(ranked, "content_hash")
        .join(joined, "content_hash")
        .select(
            "record_id",
            F.col("source_path").alias("source"),
            F.when(conflict, "filtered").otherwise(status).alias("status"),
            F.when(conflict, SPLIT_CONFLICT).otherwise(reason).alias("reason"),
            F.when(conflict, none).otherwise(F.col("earlier_cluster")).alias("cluster_id"),
        )
    )
