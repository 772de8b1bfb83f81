"""Buckets shared by two or more texts are found, whatever the parts and the batches."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.duplicates.shared_buckets import (
    bands_of_a_text,
    scatter,
    shared_buckets,
    shared_in_parts,
    short_hash,
)

Signature = dict[str, Any]
SCHEMA = pa.schema([("text", pa.int64()), ("bands", pa.list_(pa.int64()))])


def signatures(seed: int, texts: int, keys: int, bands: int = 6) -> list[Signature]:
    """Return distinct texts with buckets out of `keys` possible ones, spread over all of int64."""
    rng = random.Random(seed)
    possible = [rng.randrange(-(2**63), 2**63) for _ in range(keys)]
    return [
        {"text": rng.randrange(-(2**63), 2**63), "bands": [rng.choice(possible) for _ in range(bands)]}
        for _ in range(texts)
    ]


def by_hand(rows: Sequence[Signature]) -> list[tuple[int, int, int]]:
    """Return the rows of `shared_buckets`, computed with dictionaries."""
    members: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        for bucket in row["bands"]:
            members[bucket].append(row["text"])
    return sorted(
        (text, bucket, min(held)) for bucket, held in members.items() if len(held) > 1 for text in held
    )


def batches(rows: Sequence[Signature], size: int) -> Iterator[pa.RecordBatch]:
    for begin in range(0, len(rows), size):
        yield pa.RecordBatch.from_pylist(rows[begin : begin + size], schema=SCHEMA)


@pytest.mark.parametrize("parts", [1, 3, 64])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_parcels_of_any_batches_and_parts_give_the_shared_buckets(parts: int, size: int) -> None:
    rows = signatures(parts, 200, 700)
    salts = [1000 + number for number in range(parts)]
    parcels: dict[int, list[pa.RecordBatch]] = defaultdict(list)
    for batch in scatter(salts)(batches(rows, size)):
        for place in range(batch.num_rows):
            parcels[batch["salt"][place].as_py()].append(batch.slice(place, 1))
    assert set(parcels) <= set(salts)
    found = [row for held in parcels.values() for batch in shared_in_parts(held) for row in batch.to_pylist()]
    expected = by_hand(rows)
    assert 100 < len(expected) < 1200
    assert sorted((row["text"], row["bucket"], row["first"]) for row in found) == expected


def test_every_key_goes_to_one_part() -> None:
    rows = signatures(5, 300, 200)
    places = defaultdict(set)
    for batch in scatter([10, 20, 30, 40])(batches(rows, 50)):
        for row in batch.to_pylist():
            for begin in range(0, len(row["buckets"]), 8):
                places[row["buckets"][begin : begin + 8]].add(row["salt"])
    assert {len(salts) for salts in places.values()} == {1}
    assert set().union(*places.values()) == {10, 20, 30, 40}


def test_no_texts_share_no_buckets() -> None:
    assert list(shared_in_parts([])) == []


def test_batches_without_buckets_give_no_parcels() -> None:
    without = [{"text": 1, "bands": []}]
    assert list(scatter([7, 8])(batches(without, 1))) == []
    assert list(scatter([7, 8])(iter([pa.RecordBatch.from_pylist([], schema=SCHEMA)]))) == []
    some = [*without, {"text": 2, "bands": [5, -5]}, *without]
    parcels = [row for batch in scatter([7, 8])(batches(some, 3)) for row in batch.to_pylist()]
    assert sorted((row["salt"], row["buckets"], row["texts"]) for row in parcels) == [
        (salt, key.to_bytes(8, "little", signed=True), (2).to_bytes(8, "little"))
        for salt, key in ((7, 5), (8, -5))
    ]


def frame_of(spark: SparkSession, rows: Sequence[Signature]) -> tuple[DataFrame, list[tuple[int, int, int]]]:
    """Return a frame for shared_buckets, and the result expected from it."""
    hashed = [(row["text"].to_bytes(8, "big", signed=True) * 2, row["bands"]) for row in rows]
    frame = spark.createDataFrame(hashed, "content_hash binary, bands array<long>")
    named = frame.select("content_hash", short_hash().alias("text")).collect()
    short = {bytes(row["content_hash"]): row["text"] for row in named}
    return frame, by_hand([{"text": short[content_hash], "bands": bands} for content_hash, bands in hashed])


@pytest.mark.parametrize("keys_at_a_time", [100, 1 << 21])
def test_spark_finds_the_same(spark: SparkSession, keys_at_a_time: int) -> None:
    frame, expected = frame_of(spark, signatures(8, 400, 1500))
    found = shared_buckets(frame.repartition(3), keys_at_a_time).select("text", "bucket", "first").collect()
    assert sorted(map(tuple, found)) == expected


def test_a_text_without_buckets_neither_matters_nor_says_how_many_there_are(spark: SparkSession) -> None:
    frame, expected = frame_of(spark, [{"text": 0, "bands": []}, *signatures(9, 300, 900)])
    first = frame.coalesce(1)
    assert bands_of_a_text(first) == 6
    found = shared_buckets(first, 100)
    assert found.rdd.getNumPartitions() == 19
    assert sorted(map(tuple, found.select("text", "bucket", "first").collect())) == expected
    assert bands_of_a_text(first.where(F.size("bands") == 0)) == 0


def test_an_empty_table_has_none(spark: SparkSession) -> None:
    assert shared_buckets(spark.createDataFrame([], "content_hash binary, bands array<long>")).count() == 0
