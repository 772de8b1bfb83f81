"""Rows go to the partition that was chosen for them."""

import pytest
from pyspark.sql import SparkSession

from etl.spark.partitions import salts as salts_of


@pytest.mark.parametrize("partitions", [1, 2, 3, 8, 13])
def test_salts_give_each_number_a_task_of_its_own(spark: SparkSession, partitions: int) -> None:
    salts = salts_of(spark, partitions)
    assert len(set(salts)) == partitions
    rows = spark.createDataFrame([(salt,) for salt in salts for _ in range(3)], "salt int")
    held = (
        rows.repartition(partitions, "salt").rdd.glom().map(lambda part: [r["salt"] for r in part]).collect()
    )
    assert held == [[salt] * 3 for salt in salts]
