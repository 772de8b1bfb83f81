"""Shards of the training split that have the rows of one group each (`publish.by_group`).

Groups are numbered in the order of the smallest of their rows' order keys, so that a number tells nothing of the group.
While shards are planned and written, the rows of a group are a part of the training split with a name of its own.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from common.errors import UsageError
from etl.publication.shards import PART_SIGN, WrittenShard

MOST_GROUPS = 4096
"""Groups above which their shards would be too many and too small."""


def parted(ordered: DataFrame, fields: DataFrame, group: str) -> DataFrame:
    """Return rows with the part of their group in the place of the split `train`.

    `ordered` has record_id, split and order_key, `fields` record_id and the column `group`; records without a group are
    one together. Raises UsageError for too many groups.
    """
    groups = fields.select("record_id", sf.col(group).alias("group"))
    train = ordered.where("split = 'train'").select("record_id", "order_key").join(groups, "record_id")
    first = train.groupBy("group").agg(sf.min(sf.struct("order_key", "record_id")).alias("first"))
    found = first.orderBy("first").limit(MOST_GROUPS + 1).collect()
    if len(found) > MOST_GROUPS:
        raise UsageError(
            f"publish.by_group makes a shard of each group, and the training split has more than {MOST_GROUPS:,} "
            f"values of columns.group = {group!r}: leave it out, or give a coarser column"
        )
    spark = ordered.sparkSession
    numbered = spark.createDataFrame(
        [(row["group"], f"train{PART_SIGN}{number:04d}") for number, row in enumerate(found)],
        f"of_group {dict(fields.dtypes)[group]}, part string",
    )
    parts = groups.join(sf.broadcast(numbered), groups["group"].eqNullSafe(numbered["of_group"])).select(
        "record_id", "part"
    )
    rows = ordered.join(parts, "record_id", "left")
    is_train = sf.col("split") == "train"
    return rows.withColumn("split", sf.when(is_train, sf.col("part")).otherwise(sf.col("split"))).drop("part")


def shard_counts(rows: Mapping[str, int], whole: Mapping[str, int]) -> dict[str, int]:
    """Return the number of shards of each part: those of the `whole` split in proportion to its rows, at least one."""
    train = max(1, sum(count for split, count in rows.items() if PART_SIGN in split))
    return {
        split: max(1, round(whole["train"] * count / train)) if PART_SIGN in split else whole[split]
        for split, count in rows.items()
    }


def of_splits(rows: Mapping[str, int]) -> dict[str, int]:
    """Return the rows of each split from those of the parts."""
    found: dict[str, int] = {}
    for part, count in rows.items():
        split = part.partition(PART_SIGN)[0]
        found[split] = found.get(split, 0) + count
    return found


def whole(written: Sequence[WrittenShard]) -> list[WrittenShard]:
    """Return the shards of all parts as those of their splits, numbered anew, each with the number of its silo."""
    found: list[WrittenShard] = []
    for shard in written:
        split, sign, silo = shard.split.partition(PART_SIGN)
        number = sum(one.split == split for one in found)
        found.append(dataclasses.replace(shard, split=split, number=number, silo=int(silo) if sign else None))
    return found
