"""Hot keys are found by counting, salted, and change nothing but which task reads which record."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from etl import skew
from etl.deduplicate import deduplicate
from etl.skew import NO_HOT_KEYS, HotKeys, hot_keys, salted_join
from etl.split import split
from etl.task_metrics import StageShuffles, newest_spark_stage, shuffles_since
from schemas.config import Configuration
from tests.etl import documents
from tests.etl.test_split import read_ledger

PARTITIONS = 8
AS_FOR_LARGE_DATA = {
    # What is small would be joined without a shuffle, and read by a single task.
    "spark.sql.autoBroadcastJoinThreshold": "-1",
    "spark.sql.adaptive.autoBroadcastJoinThreshold": "-1",
    "spark.sql.adaptive.coalescePartitions.enabled": "false",
    "spark.sql.shuffle.partitions": str(PARTITIONS),
}


@pytest.fixture
def shuffling(spark: SparkSession) -> Iterator[SparkSession]:
    """The session, planning as it does for data that are too large to be joined without a shuffle."""
    before = {key: spark.conf.get(key, None) for key in AS_FOR_LARGE_DATA}
    for key, value in AS_FOR_LARGE_DATA.items():
        spark.conf.set(key, value)
    yield spark
    for key, old in before.items():
        if old is None:
            spark.conf.unset(key)
        else:
            spark.conf.set(key, old)


def pieces_of(hot: HotKeys) -> dict[Any, int]:
    return {} if hot.pieces is None else dict(zip(*hot.pieces.to_pydict().values(), strict=True))


def test_a_key_is_hot_above_a_share_of_what_a_task_reads(shuffling: SparkSession) -> None:
    rows = [("warm", 78), ("hot", 79), ("hotter", 10_000), *((f"k{i}", 1) for i in range(843))]
    counts = shuffling.createDataFrame(rows, "key string, records long")
    # 20,000 records for 8 tasks: a 32nd of a task's part are 78.
    found = hot_keys(counts, without_key=9_000)
    assert pieces_of(found) == {"hot": 2, "hotter": 129}
    assert found.pieces_without_key == 116
    assert len(found) == 3
    assert hot_keys(counts.where("records = 1"), without_key=0) == NO_HOT_KEYS


def test_few_records_are_left_alone(shuffling: SparkSession) -> None:
    counts = shuffling.createDataFrame([("only", 999)], "key string, records long")
    assert hot_keys(counts) == NO_HOT_KEYS
    assert len(hot_keys(counts, without_key=1)) == 1


@pytest.fixture(scope="module")
def sides(spark: SparkSession) -> tuple[DataFrame, DataFrame]:
    """60% of the left records have one key, 20% have none, some of the others have no partner."""
    rng = random.Random(4)
    left = [
        (f"r{i}", b"hot" if i % 5 < 3 else None if i % 5 == 3 else f"k{rng.randrange(3_000)}".encode())
        for i in range(12_000)
    ]
    right = [(f"k{i}".encode(), i) for i in range(2_500)] + [(b"hot", -1), (b"hot", -2), (None, -3)]
    return (
        spark.createDataFrame(left, "id string, key binary").repartition(4).cache(),
        spark.createDataFrame(right, "key binary, value int"),
    )


@pytest.mark.parametrize("how", ["inner", "left"])
def test_a_salted_join_gives_the_same_rows(
    shuffling: SparkSession, sides: tuple[DataFrame, DataFrame], how: Any
) -> None:
    left, right = sides
    counts = left.where("key IS NOT NULL").groupBy("key").count()
    hot = hot_keys(counts, left.where("key IS NULL").count())
    assert len(hot) == 2
    only_keyless = HotKeys(None, hot.pieces_without_key)
    plain = left.join(right, "key", how=how).select("id", "key", "value")
    expected = sorted(map(tuple, plain.collect()), key=repr)
    assert len(expected) > 15_000
    for keys in (hot, only_keyless, NO_HOT_KEYS):
        joined = salted_join(left, right, "key", how, keys, "id")
        assert joined.columns == ["id", "key", "value"]
        assert sorted(map(tuple, joined.collect()), key=repr) == expected


def test_the_largest_task_of_a_salted_join_reads_at_most_twice_the_median(
    shuffling: SparkSession, sides: tuple[DataFrame, DataFrame]
) -> None:
    left, right = sides
    counts = left.where("key IS NOT NULL").groupBy("key").count()
    hot = hot_keys(counts, left.where("key IS NULL").count())
    ratios = []
    for keys in (NO_HOT_KEYS, hot):
        before = newest_spark_stage(shuffling)
        salted_join(left, right, "key", "left", keys, "id").agg(F.count("value")).collect()
        worst = shuffles_since(shuffling, before, "join").least_even
        assert worst is not None
        assert worst.tasks == PARTITIONS
        ratios.append(worst.ratio)
    assert ratios[0] > 10
    assert ratios[1] <= 2


def measured(spark: SparkSession, stage: Any, config: Configuration) -> StageShuffles:
    before = newest_spark_stage(spark)
    counts = stage(spark, config)
    return shuffles_since(spark, before, stage.__name__, counts.get("salted_keys", 0))


def test_copies_clusters_and_groups_of_any_size_are_spread_and_change_nothing(
    shuffling: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text with 8,000 copies, 1,200 variants of another, a group with a third of the records."""
    rng = random.Random(7)
    base = documents.prose(rng, 60)
    texts = ["copied text, many thousand times over"] * 8_000
    texts += [" ".join([*base, f"variant{i}"]) for i in range(1_200)]
    texts += [" ".join(documents.prose(rng, 8)) for _ in range(4_500)]
    rows = [
        {"record_id": f"r{i:05d}", "text": text, "kind": "ab"[i % 10 == 0]}
        | {"origin": "everywhere" if i % 3 == 0 else f"o{i % 2_000}"}
        for i, text in enumerate(texts)
    ]
    results: dict[str, Any] = {}
    for name, few in (("plain", 10**9), ("salted", skew.FEW_RECORDS)):
        monkeypatch.setattr(skew, "FEW_RECORDS", few)
        config = documents.configuration(tmp_path / name, columns={"label": "kind", "group": "origin"})
        documents.write_fields(config, rows, files=4)
        stages = [measured(shuffling, stage, config) for stage in (deduplicate, split)]
        results[name] = (stages, read_ledger(config))
    assert results["salted"][1] == results["plain"][1]
    assert {row["split"] for row in results["plain"][1]} == {"train", "validation", "test", None}
    for plain, salted in zip(results["plain"][0], results["salted"][0], strict=True):
        assert plain.salted_keys == 0
        assert salted.salted_keys > 0
        assert plain.least_even is not None
        assert salted.least_even is not None
        assert plain.least_even.ratio > 2 >= salted.least_even.ratio, (plain, salted)
