"""The records that have a split already: what new ones share with them, and how many there are."""

from collections import defaultdict

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from etl.splits.assignment import RowsByClass
from schemas.config import Configuration
from schemas.tables import SPLITS


def anchors(members: DataFrame, earlier: DataFrame, fields: DataFrame, config: Configuration) -> DataFrame:
    """For each unit of new records that has something in common with earlier ones: `unit`, and their `splits`."""
    placed = earlier.where("split IS NOT NULL").select(
        "record_id", F.col("cluster_id").alias("cluster"), F.col("split").alias("of_split")
    )
    kept_members = members.where("unit IS NOT NULL")
    found = kept_members.join(placed.select("cluster", "of_split").distinct(), "cluster").select(
        "unit", "of_split"
    )
    if config.columns.group is not None:
        groups = fields.select("record_id", F.col(config.columns.group).alias("group"))
        of_groups = groups.join(placed, "record_id").select("group", "of_split").distinct()
        found = found.unionByName(kept_members.join(of_groups, "group").select("unit", "of_split"))
    return found.groupBy("unit").agg(F.sort_array(F.collect_set("of_split")).alias("splits"))


def rows_by_class(earlier: DataFrame, fields: DataFrame, config: Configuration) -> RowsByClass:
    """The rows of earlier records by class, then in the order of SPLITS."""
    placed = earlier.where("split IS NOT NULL").select("record_id", "split")
    label = config.columns.label
    if label is None:
        labelled = placed.withColumn("label", F.lit(None).cast("string"))
    else:
        labelled = placed.join(fields.select("record_id", F.col(label).alias("label")), "record_id")
    found: dict[str | None, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in labelled.groupBy("label", "split").count().collect():
        found[row["label"]][SPLITS.index(row["split"])] = int(row["count"])
    return found
