"""Balance-partitioning: exact sizes, and shards cut by rank from one total order."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as sf

from etl.publication import balance
from schemas.settings import Publish


@given(rows=st.integers(0, 5000), shards=st.integers(1, 40), group=st.integers(1, 300))
def test_row_groups_are_full_but_the_last_and_shards_differ_by_one_row_group(
    rows: int, shards: int, group: int
) -> None:
    sizes = balance.shard_rows(rows, shards, group)
    assert sum(sizes) == rows
    assert len(sizes) <= shards
    assert all(size > 0 for size in sizes)
    groups = [g for size in sizes for g in balance.row_groups(size, group)]
    assert all(g == group for g in groups[:-1])
    if sizes:
        assert max(sizes) - min(sizes) <= group
        assert len(sizes) == min(shards, len(groups))


def test_expected_sizes() -> None:
    assert balance.shard_rows(0, 4, 10) == []
    assert balance.shard_rows(7, 4, 10) == [7]
    assert balance.shard_rows(40, 4, 10) == [10, 10, 10, 10]
    assert balance.shard_rows(41, 4, 10) == [10, 10, 10, 11]
    assert balance.shard_rows(59, 4, 10) == [10, 10, 20, 19]


def test_the_number_of_shards_follows_the_configuration() -> None:
    rows = {"train": 800, "validation": 100, "test": 100}
    assert balance.shard_counts(rows, Publish(shards=16), 100) == {"train": 16, "validation": 2, "test": 2}
    by_bytes = balance.shard_counts(rows, Publish(target_shard_bytes=10_000), 100 - balance.ID_BYTES)
    assert by_bytes == {"train": 8, "validation": 1, "test": 1}


@pytest.mark.parametrize(
    ("train", "group", "shards"),
    [
        (10, 64, 1),
        (800, 64, 3),  # 13 row groups, at least four per shard
        (20_000, 78, 8),
        (256 * 14_492, 14_492, 8),  # the first row groups of 4 MB
        (10**8, 14_492, 29),  # 276 bytes and the id's 32: 1 GiB are 3,486,178 rows
        (10**9, 14_492, 287),
    ],
)
def test_by_default_sizes_follow_the_data(train: int, group: int, shards: int) -> None:
    rows = {"train": train, "test": train // 8}
    assert balance.row_group_size(Publish(), rows, 276) == group
    counts = balance.shard_counts(rows, Publish(), 276)
    assert counts == {"train": shards, "test": max(1, round(shards / 8))}
    if shards > balance.DEFAULT_SHARDS:
        assert train * (276 + 32) / shards == pytest.approx(1 << 30, rel=0.02)


def test_a_configured_size_of_row_groups_is_taken() -> None:
    publish = Publish(rows_per_group=10)
    assert balance.row_group_size(publish, {"train": 10**9}, 276) == 10
    # A row larger than a row group should be is a row group of its own.
    assert balance.row_group_size(Publish(), {"train": 10**9}, 10_000_000) == 1


@pytest.mark.parametrize("per_bucket", [balance.ROWS_PER_BUCKET, 7, 1])
def test_boundaries_are_the_ranks_of_the_total_order(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, per_bucket: int
) -> None:
    monkeypatch.setattr(balance, "ROWS_PER_BUCKET", per_bucket)
    ids = [(f"id-{n}", "train" if n % 5 else "test") for n in range(600)]
    random.Random(1).shuffle(ids)
    frame = balance.with_order_key(spark.createDataFrame(ids, "record_id string, split string"))
    plans = balance.plan(frame, {"train": (480, 7), "test": (120, 2)}, 32)
    rows = [(r["split"], r["order_key"], r["record_id"]) for r in frame.collect()]
    for split, plan in plans.items():
        ordered = sorted((key, record_id) for s, key, record_id in rows if s == split)
        rank = 0
        for number, size in enumerate(plan.rows):
            assert plan.first[number] == ordered[rank]
            for key, record_id in ordered[rank : rank + size]:
                assert plan.shard_of(key, record_id) == number
            rank += size
        assert rank == len(ordered)


def test_few_ids_are_collected_where_a_packed_row_holds_many_records(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balance, "ROWS_PER_BUCKET", 8)
    ids = [(f"id-{n}", "train") for n in range(600)]
    frame = balance.with_order_key(spark.createDataFrame(ids, "record_id string, split string"))
    collected: list[int] = []
    collect = type(frame).collect

    def counted(self: DataFrame) -> list[Row]:
        found = collect(self)
        collected.append(len(found))
        return found

    monkeypatch.setattr(type(frame), "collect", counted)
    # 600 records of 2 tokens fill 12 rows of 100.
    plans = balance.plan(frame, {"train": (12, 2)}, 1, sf.lit(2), 100, len(ids))
    assert plans["train"].rows == (6, 6)
    assert collected[1] < 60  # ids of the 2 buckets with a boundary
