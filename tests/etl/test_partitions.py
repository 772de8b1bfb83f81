"""Rows go to the partition that was chosen for them."""

import pytest
from pyspark.sql import SparkSession

from etl.spark.partitions import salts as salts_of
from etl.spark.partitions import spark_hash


@pytest.mark.parametrize("partitions", [1, 2, 3, 8, 13])
def test_salts_give_each_number_a_task_of_its_own(spark: SparkSession, partitions: int) -> None:
    salts = salts_of(partitions)
    assert len(set(salts)) == partitions
    rows = spark.createDataFrame([(salt,) for salt in salts for _ in range(3)], "salt int")
    held = (
        rows.repartition(partitions, "salt").rdd.glom().map(lambda part: [r["salt"] for r in part]).collect()
    )
    assert held == [[salt] * 3 for salt in salts]


def test_the_hash_is_that_of_spark(spark: SparkSession) -> None:
    numbers = [*range(70), 1 << 16, (1 << 31) - 1]
    frame = spark.createDataFrame([(number,) for number in numbers], "number int")
    assert [row[0] for row in frame.selectExpr("hash(number)").collect()] == list(map(spark_hash, numbers))
