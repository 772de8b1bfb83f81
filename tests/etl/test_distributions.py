"""Rows a shard and a row group are exact, whatever the sizes, labels and keys of the records."""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from etl.encode import encode
from etl.publish import publish
from schemas import manifest as manifests
from schemas.config import Configuration
from schemas.tables import Layout, quarantine_schema, records_schema, signatures_schema, sources_schema
from tests.etl.example_tables import configuration
from tests.etl.test_encode import write_silver

Row = tuple[str, str, str, str | None]
SPLITS = ["train"] * 8 + ["validation", "test"]


def zipf(rows: int, classes: int) -> list[str]:
    """A label for each row; class k has about 1/k of the rows of class 1."""
    weights = [1 / k for k in range(1, classes + 1)]
    ends = [end / sum(weights) for end in itertools.accumulate(weights)]
    return [f"class-{next(k for k, end in enumerate(ends) if (n + 0.5) / rows <= end)}" for n in range(rows)]


def mostly_one(rows: int) -> list[str]:
    return ["common" if n % 10 else f"rare-{n % 3}" for n in range(rows)]


def texts_of(rows: int) -> list[str]:
    return [f"record number {n} of the table" for n in range(rows)]


def published(
    spark: SparkSession, folder: Path, labels: Sequence[str], texts: Sequence[str], **section: Any
) -> tuple[Configuration, list[Row]]:
    """Encodes and publishes records with these labels and texts, whose ids sort as no order of theirs."""
    config = configuration(
        folder,
        feature=[{"name": "tokens", "column": "text", "length": 6, "vocabulary": 300, "fit_bytes": 5_000}],
        publish=section,
        clean={"length": {"maximum": 100_000_000}},
        quality={"max_class_deviation": 1.0, "max_split_deviation": 1.0},
    )
    rows: list[Row] = [
        (f"{n * 7919 % 10_007:05d}-{n}", label, text, SPLITS[n % len(SPLITS)])
        for n, (label, text) in enumerate(zip(labels, texts, strict=True))
    ]
    write_silver(config, rows)
    write_bronze(config, rows)
    encode(spark, config)
    publish(spark, config)
    return config, rows


def write_bronze(config: Configuration, rows: Sequence[Row]) -> None:
    layout = Layout.of(config)
    place = {"source_index": 0, "source_path": "a", "source_position": 0, "source_bytes": 9}
    records = [{"record_id": i, **place, "label": label, "text": text[:100]} for i, label, text, _ in rows]
    source = {"source_index": 0, "source_path": "a", "bytes": 99, "sha256": "0" * 64, "status": "read"}
    sources = [{**source, "records": len(rows), "quarantined": 0}]
    for uri, values, schema in (
        (layout.records, records, records_schema(config)),
        (layout.quarantine, [], quarantine_schema()),
        (layout.sources, sources, sources_schema()),
        (layout.signatures, [], signatures_schema()),
    ):
        columns = {field.name: [row.get(field.name) for row in values] for field in schema}
        write_deltalake(uri, pa.table(columns, schema=schema), mode="overwrite")


def check_exact(config: Configuration, rows: Sequence[Row], rows_per_group: int) -> dict[str, list[int]]:
    """Every row once; all row groups full but the last of a split; shards equal but for one. Returns their rows."""
    manifest = manifests.load(manifests.newest(Layout.of(config).manifests))
    sizes = {}
    for split, content in manifest.splits.items():
        ids: list[str] = []
        groups: list[int] = []
        for shard in content.shards:
            parquet = pq.ParquetFile(manifest.shard_uri(shard))
            held = [parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups)]
            assert held == shard.row_groups
            assert sum(held) == shard.rows
            groups += held
            ids += parquet.read(["record_id"])["record_id"].to_pylist()
        expected = [(record_id, label) for record_id, label, _, of in rows if of == split]
        assert sorted(ids) == sorted(record_id for record_id, _ in expected)
        assert {k: n for k, n in content.label_counts.items() if n} == Counter(label for _, label in expected)
        assert all(held == rows_per_group for held in groups[:-1])
        sizes[split] = [shard.rows for shard in content.shards]
        assert max(sizes[split], default=0) - min(sizes[split], default=0) <= rows_per_group
    return sizes


def test_classes_by_zipf_and_a_document_of_50_mb_among_short_ones(
    spark: SparkSession, tmp_path: Path
) -> None:
    texts = texts_of(1_000)
    texts[504] = "one long document among short ones " * (50_000_000 // 35)
    assert 49_999_000 < len(texts[504]) <= 50_000_000
    config, rows = published(spark, tmp_path, zipf(1_000, 40), texts, shards=6, rows_per_group=16)
    sizes = check_exact(config, rows, 16)
    assert sizes == {"train": [128] * 4 + [144] * 2, "validation": [100], "test": [100]}
    assert Counter(label for _, label, _, _ in rows).most_common(1)[0][1] > 200


@pytest.mark.parametrize(
    ("section", "group", "train"),
    [
        ({"shards": 5, "rows_per_group": 7}, 7, [56, 56, 63, 63, 58]),
        # 22 row groups of the default's 64 rows would be 5 shards of 4 at least; 296 rows are 5 row groups.
        ({}, 64, [296]),
        # 48 bytes and the id: 6 rows a shard.
        ({"target_shard_bytes": 400, "rows_per_group": 2}, 2, None),
    ],
)
def test_one_class_of_nine_tenths(
    spark: SparkSession, tmp_path: Path, section: dict[str, int], group: int, train: list[int] | None
) -> None:
    config, rows = published(spark, tmp_path, mostly_one(370), texts_of(370), **section)
    sizes = check_exact(config, rows, group)
    if train is not None:
        assert sizes["train"] == train
    else:
        assert len(sizes["train"]) == round(296 / (400 // (16 + 4 + 12 + 32)))


def test_fewer_rows_than_shards(spark: SparkSession, tmp_path: Path) -> None:
    config, rows = published(spark, tmp_path, mostly_one(10), texts_of(10), shards=16, rows_per_group=1)
    assert check_exact(config, rows, 1) == {"train": [1] * 8, "validation": [1], "test": [1]}
