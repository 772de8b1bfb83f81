"""Joins on keys that may be hot: some keys hold so many records that one task would read far more than the others.

Hot keys are measured, never guessed: a key is hot when it holds more records than 1/PORTIONS of what a task reads on
average. Its records are cut into pieces of at most so many, by a hash of their own id (the same in every attempt of a
task), and the other side's row of that key is repeated for each piece. So no piece is larger than 1/PORTIONS of a
task's part, and hashing spreads the pieces like all other keys, which are left alone. Records without a key, which
Spark would all send to one task, are spread in the same way.

Aggregations need none of this: Spark combines the records of a key before it shuffles them.
"""

import math
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

PORTIONS = 32
"""With pieces of a 32nd of a task's part the largest of some hundreds of tasks gets less than twice the average."""
FEW_RECORDS = 5_000
"""Number of records below which nothing is salted: whichever task reads them, it is soon done."""


@dataclass(frozen=True)
class HotKeys:
    """Keys to be salted."""

    pieces: pa.Table | None = None
    """Columns `key`, `pieces`: the number of pieces of each hot key's records; None: there are none."""
    pieces_without_key: int = 1
    """Number of pieces of the records without a key."""

    def __len__(self) -> int:
        """Return the number of hot keys; a hot null counts as one."""
        return (0 if self.pieces is None else len(self.pieces)) + (self.pieces_without_key > 1)


NO_HOT_KEYS = HotKeys()


def hot_keys(counts: DataFrame, without_key: int = 0) -> HotKeys:
    """Measure which keys are hot.

    `counts` has two columns: a key, each once and none null, and its number of records; `without_key` is the number
    of records that have none. At most PORTIONS keys for each shuffle partition can be hot and come to the driver.
    """
    spark, (key, records) = counts.sparkSession, counts.columns
    with_key, largest = (int(value or 0) for value in counts.agg(F.sum(records), F.max(records)).collect()[0])
    partitions = int(spark.conf.get("spark.sql.shuffle.partitions") or 1)
    most = max(1, (with_key + without_key) // (partitions * PORTIONS))
    if with_key + without_key < FEW_RECORDS or max(largest, without_key) <= most:
        return NO_HOT_KEYS
    found = counts.where(F.col(records) > most).toArrow()
    pieces = pc.ceil(pc.divide(found[records].cast(pa.float64()), float(most))).cast(pa.int32())
    table = pa.table({"key": found[key], "pieces": pieces}) if len(found) else None
    return HotKeys(table, max(1, math.ceil(without_key / most)))


def salted_join(
    left: DataFrame, right: DataFrame, key: str, how: Literal["inner", "left"], hot: HotKeys, salt_by: str
) -> DataFrame:
    """Return `left.join(right, key, how)`, the same rows, where `left` has the hot keys and `right` few rows a key.

    The records of a hot key are spread by the hash of their column `salt_by`.
    """
    names = [*left.columns, *(name for name in right.columns if name != key)]
    if not len(hot):
        return left.join(right, key, how=how).select(*names)
    one, spread = F.lit(1), F.lit(hot.pieces_without_key)
    if hot.pieces is not None:
        named = hot.pieces.rename_columns([key, "pieces"])
        pieces = F.broadcast(left.sparkSession.createDataFrame(named))
        left, right = (side.join(pieces, key, how="left") for side in (left, right))
    else:
        left, right = (side.withColumn("pieces", F.lit(None).cast("int")) for side in (left, right))
    cut = F.when(F.col(key).isNull(), spread).otherwise(F.coalesce("pieces", one))
    left = left.withColumn("piece", F.pmod(F.xxhash64(salt_by), cut).cast("int")).drop("pieces")
    copies = F.sequence(F.lit(0), F.coalesce("pieces", one) - 1)
    right = right.withColumn("piece", F.explode(copies)).drop("pieces")
    return left.join(right, [key, "piece"], how=how).select(*names)
