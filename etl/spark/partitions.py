"""Assignment of rows to chosen partitions."""

from pyspark.sql import SparkSession
from pyspark.sql import functions as F


def salts(spark: SparkSession, partitions: int) -> list[int]:
    """Return, for each partition p, an integer whose Spark hash modulo `partitions` is p.

    `repartition(n, column)` sends a row to the partition of its column's hash; with these salts as the column every
    number from 0 to n - 1 has a task of its own, where the plain numbers would collide.
    """
    found: dict[int, int] = {}
    start, step = 0, max(64, partitions * 16)
    while len(found) < partitions:
        candidates = spark.range(start, start + step).select(
            F.col("id").cast("int").alias("salt"),
            F.pmod(F.hash(F.col("id").cast("int")), F.lit(partitions)).alias("partition"),
        )
        for row in candidates.collect():
            found.setdefault(row["partition"], row["salt"])
        start += step
    return [found[partition] for partition in range(partitions)]
