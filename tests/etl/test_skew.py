"""Hot keys are found by counting, salted, and change only which task reads which record."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.skew import LARGE
from etl.duplicates import sketching, survivors
from etl.duplicates.contents import content_of
from etl.duplicates.near_duplicates import near_duplicate_clusters
from etl.lake.tables import read_table
from etl.runs.stage_metrics import metrics_since, newest_spark_stage
from etl.spark import skew
from etl.spark.skew import NO_HOT_KEYS, HotKeys, hot_keys, salted_join
from etl.splits.units import with_unit
from schemas.tables import Layout
from tests.etl import documents

PARTITIONS = 8
# Small tables would be joined without a shuffle, and read by a single task.
AS_FOR_LARGE_DATA = {**LARGE, "spark.sql.shuffle.partitions": str(PARTITIONS)}


@pytest.fixture
def shuffling(spark: SparkSession) -> Iterator[SparkSession]:
    """Return the session, planning as for data that are too large to be joined without a shuffle."""
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
    # 20,000 records for 8 tasks: a 32nd of a task's part is 78.
    found = hot_keys(counts, without_key=9_000)
    assert pieces_of(found) == {"hot": 2, "hotter": 129}
    assert found.pieces_without_key == 116
    assert len(found) == 3
    assert hot_keys(counts.where("records = 1"), without_key=0) == NO_HOT_KEYS


def test_few_records_are_left_alone(shuffling: SparkSession) -> None:
    counts = shuffling.createDataFrame([("only", 4_999)], "key string, records long")
    assert hot_keys(counts) == NO_HOT_KEYS
    assert len(hot_keys(counts, without_key=1)) == 1


@pytest.fixture(scope="module")
def sides(spark: SparkSession) -> tuple[DataFrame, DataFrame]:
    """Return frames: 60% of the left records have one key, 20% have none, some of the others have no partner."""
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
        worst = metrics_since(shuffling, before, "join").least_even
        assert worst is not None
        assert worst.tasks == PARTITIONS
        ratios.append(worst.ratio)
    assert ratios[0] > 10
    assert ratios[1] <= 2


def least_even(spark: SparkSession, frame: DataFrame) -> tuple[float, list[tuple[Any, ...]]]:
    """Return the ratio of the least even shuffle that a frame takes, and its rows."""
    before = newest_spark_stage(spark)
    rows = sorted(map(tuple, frame.collect()), key=repr)
    worst = metrics_since(spark, before, "frame").least_even
    assert worst is not None
    return worst.ratio, rows


def test_copies_of_a_text_and_a_large_cluster_are_spread_and_the_ledger_is_the_same(
    shuffling: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skew, "FEW_RECORDS", 1_000)
    rng = random.Random(7)
    base = documents.prose(rng, 60)
    texts = ["copied text, many thousand times over"] * 8_000
    texts += [" ".join([*base, f"variant{i}"]) for i in range(1_200)]
    texts += [" ".join(documents.prose(rng, 8)) for _ in range(3_000)]
    config = documents.configuration(tmp_path)
    documents.write_fields(config, [{"record_id": f"r{i:05d}", "text": t} for i, t in enumerate(texts)], 4)
    fields = read_table(shuffling, Layout.of(config).fields)
    sketches = sketching.with_sketches(fields, config).cache()
    texts_of = sketching.group_by_text(sketches, config).cache()
    clusters = near_duplicate_clusters(
        sketching.select_signatures(sketches, texts_of), content_of(config).connect
    ).cache()
    hot_texts, hot_clusters = survivors.hot_texts_and_clusters(texts_of, clusters)
    assert (len(hot_texts), len(hot_clusters)) == (1, 1)

    def ledger(of_texts: HotKeys, of_clusters: HotKeys) -> tuple[float, list[tuple[Any, ...]]]:
        first = survivors.with_survivor(texts_of, clusters, of_clusters)
        return least_even(shuffling, survivors.build_clusters(fields, sketches, first, config, of_texts))

    plain, salted = ledger(NO_HOT_KEYS, NO_HOT_KEYS), ledger(hot_texts, hot_clusters)
    for frame in (sketches, texts_of, clusters):
        frame.unpersist()
    assert salted[1] == plain[1]
    assert len(plain[1]) == len(texts)
    assert plain[0] > 2 >= salted[0]


def test_what_was_dropped_and_a_large_group_are_spread_and_units_are_the_same(
    shuffling: SparkSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Half of the records were dropped, and a third of the others belong to one group."""
    config = documents.configuration(tmp_path, columns={"label": "kind", "group": "origin"})
    rows = [(f"r{i:05d}", "kept" if i % 2 else "exact_duplicate", f"r{i - i % 3:05d}") for i in range(12_000)]
    ledger = shuffling.createDataFrame(rows, "record_id string, status string, cluster_id string").withColumn(
        "split", F.lit(None)
    )
    number = F.substring("record_id", 2, 5).cast("int")
    fields = ledger.select(
        "record_id",
        F.when(number % 10 == 0, "a").otherwise("b").alias("kind"),
        F.when(number % 6 == 1, "everywhere").otherwise(F.concat(F.lit("o"), number % 1_777)).alias("origin"),
    )

    def units() -> tuple[float, list[tuple[Any, ...]], int]:
        members, salted = with_unit(ledger, fields, config)
        return *least_even(shuffling, members.select("record_id", "label", "unit")), salted

    salted = units()
    monkeypatch.setattr(skew, "FEW_RECORDS", 10**9)
    plain = units()
    assert plain[1] == salted[1]
    assert (plain[2], salted[2]) == (0, 2)  # the group, and those without a cluster
    assert plain[0] > 2 >= salted[0]
