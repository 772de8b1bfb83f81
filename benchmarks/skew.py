"""Compare salting of hot keys with Spark's adaptive execution: `python -m benchmarks.skew [RECORDS]`.

60% of the left records have one key, 20% have none. Prints, for a plain join, one that adaptive execution may split
at its lowest thresholds, and a salted one: seconds (median of ROUNDS, alternated), and the records of the median and
of the largest task of the least even shuffle.
"""

import statistics
import sys
import time

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.runs.stage_metrics import metrics_since, newest_spark_stage
from etl.spark.session import build_session
from etl.spark.skew import NO_HOT_KEYS, HotKeys, hot_keys, salted_join

ROUNDS, PARTITIONS, MAP_TASKS = 5, 16, 8
LARGE = {
    # As for tables that are too large to be joined without a shuffle.
    "spark.sql.autoBroadcastJoinThreshold": "-1",
    "spark.sql.adaptive.autoBroadcastJoinThreshold": "-1",
    "spark.sql.adaptive.coalescePartitions.enabled": "false",
    "spark.sql.shuffle.partitions": str(PARTITIONS),
}
ADAPTIVE = {
    "spark.sql.adaptive.skewJoin.enabled": "true",
    "spark.sql.adaptive.skewJoin.skewedPartitionFactor": "1",
    "spark.sql.adaptive.skewJoin.skewedPartitionThresholdInBytes": "1",
    "spark.sql.adaptive.advisoryPartitionSizeInBytes": "64k",
    "spark.sql.adaptive.forceOptimizeSkewedJoin": "true",
}


def sides(spark: SparkSession, records: int) -> tuple[DataFrame, DataFrame]:
    """Return both sides of the join, cached."""
    number = F.col("id")
    key = F.when(number % 5 < 3, "hot").when(number % 5 == 4, F.concat(F.lit("k"), number % 30_011))
    left = spark.range(0, records, 1, MAP_TASKS).select(
        F.sha2(number.cast("string"), 256).alias("id"), key.alias("key")
    )
    right = spark.range(0, 30_011, 1, MAP_TASKS).select(
        F.concat(F.lit("k"), number).alias("key"), number.alias("value")
    )
    right = right.union(spark.createDataFrame([("hot", -1)], "key string, value long"))
    for frame in (left := left.cache(), right := right.cache()):
        frame.count()
    return left, right


def measured(
    spark: SparkSession, left: DataFrame, right: DataFrame, hot: HotKeys
) -> tuple[float, float, float]:
    """Join; return the seconds, and the records of the median and of the largest task."""
    before, began = newest_spark_stage(spark), time.perf_counter()
    joined = salted_join(left, right, "key", "left", hot, "id")
    joined.select(F.sum(F.length("id")), F.sum("value")).collect()
    seconds = time.perf_counter() - began
    worst = metrics_since(spark, before, "join").least_even
    assert worst is not None
    return seconds, worst.median_records, worst.largest_records


def main() -> None:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    spark = build_session("skew", LARGE)
    left, right = sides(spark, records)
    began = time.perf_counter()
    counts = left.where("key IS NOT NULL").groupBy("key").count()
    hot = hot_keys(counts, left.where("key IS NULL").count())
    counting = time.perf_counter() - began
    variants = {
        "plain": ({"spark.sql.adaptive.skewJoin.enabled": "false"}, NO_HOT_KEYS),
        "adaptive": (ADAPTIVE, NO_HOT_KEYS),
        "salted": ({"spark.sql.adaptive.skewJoin.enabled": "false"}, hot),
    }
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in variants}
    for _ in range(ROUNDS + 1):
        for name, (settings, keys) in variants.items():
            for setting, value in settings.items():
                spark.conf.set(setting, value)
            found[name].append(measured(spark, left, right, keys))
    print(f"{records:,} records; counting the keys took {counting:.2f} s")
    print("| join | seconds | median task | largest task | ratio |\n|---|--:|--:|--:|--:|")
    for name, runs in found.items():
        seconds = statistics.median(run[0] for run in runs[1:])  # the first compiles the code
        _, median, largest = runs[-1]
        print(f"| {name} | {seconds:.2f} | {median:,.0f} | {largest:,.0f} | {largest / max(median, 1):.2f} |")
    spark.stop()


if __name__ == "__main__":
    main()
