"""Units that stay together in one split: records that share a cluster of duplicates, or a group."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from etl.duplicates.components import components
from etl.spark.persist import persisted
from etl.spark.skew import hot_keys, salted_join
from schemas.config import Configuration


def with_unit(ledger: DataFrame, fields: DataFrame, config: Configuration) -> tuple[DataFrame, int]:
    """Return the ledger without `split`, and the number of hot keys that were salted on the way.

    It has the columns `label` (null where none is configured) and `unit` for each kept record.
    """
    label, group = config.columns.label, config.columns.group
    members = ledger.drop("split").withColumn(
        "cluster", F.when(F.col("status") == "kept", F.col("cluster_id"))
    )
    none = F.lit(None).cast("string")
    if label is None and group is None:
        return members.withColumn("label", none).withColumn("unit", F.col("cluster")), 0
    roles = fields.select(
        "record_id",
        (none if label is None else F.col(label)).alias("label"),
        (none if group is None else F.col(group)).alias("group"),
    )
    members = members.join(roles, "record_id", how="left")
    if group is None:
        return members.withColumn("unit", F.col("cluster")), 0
    # Each group's smallest cluster represents it: clusters with a common group are connected with that one.
    grouped = members.where("group IS NOT NULL AND cluster IS NOT NULL").select("group", "cluster").distinct()
    with persisted(grouped):
        counted = grouped.groupBy("group").agg(
            F.count("*").alias("clusters"), F.min("cluster").alias("first")
        )
        hot_groups = hot_keys(counted.select("group", "clusters"))
        connected = components(
            salted_join(grouped, counted, "group", "inner", hot_groups, "cluster").select("cluster", "first")
        ).withColumnRenamed("member", "cluster")
    sizes = ledger.where("status = 'kept'").groupBy(F.col("cluster_id").alias("cluster")).count()
    hot = hot_keys(sizes, ledger.where("status <> 'kept'").count())
    joined = salted_join(members, connected, "cluster", "left", hot, "record_id")
    return joined.withColumn("unit", F.coalesce("component", "cluster")), len(hot_groups) + len(hot)


def count_units(members: DataFrame, seed: int) -> DataFrame:
    """Return columns `unit`, `label` (the most frequent, on a tie the smallest), `rows`, `order` (a hash)."""
    by_label = members.where("unit IS NOT NULL").groupBy("unit", "label").agg(F.count("*").alias("rows"))
    most = F.min(F.struct(-F.col("rows"), F.col("label")))
    return (
        by_label.groupBy("unit")
        .agg(most["label"].alias("label"), F.sum("rows").alias("rows"))
        .withColumn("order", F.xxhash64(F.lit(seed), "unit"))
    )
