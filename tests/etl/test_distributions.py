"""Rows per shard and row group are exact, and tasks evenly loaded, whatever the records' sizes, labels and keys."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from etl.runs.completion import Stage
from etl.runs.run import Run
from etl.runs.stage_metrics import StageMetrics, persisted
from etl.stages import deduplicate, encode, split
from etl.stages.running import timed
from etl.versions.publishing import publish
from schemas import manifest as manifests
from schemas.config import Configuration
from schemas.tables import (
    Layout,
    fields_schema,
    quarantine_schema,
    records_schema,
    signatures_schema,
    sources_schema,
)
from tests.etl.example_tables import configuration
from tests.etl.test_encode import write_silver

# Large tables; test_skew.py and test_shards.py test the rules on small ones.
pytestmark = pytest.mark.thorough

Row = tuple[str, str, str, str | None]
"""Columns record_id, label, text, split."""
AS_FOR_LARGE_DATA = {
    # Small tables would be joined without a shuffle, and read by a single task.
    "spark.sql.autoBroadcastJoinThreshold": "-1",
    "spark.sql.adaptive.autoBroadcastJoinThreshold": "-1",
    "spark.sql.adaptive.coalescePartitions.enabled": "false",
}
COPIES, SHORT, DENSE, CLASSES = 9_000, 1_500, 20, 40
DENSE_WORDS, WORD = 2_000, 200


@dataclass(frozen=True)
class Published:
    """A data set that has gone through the stages after `clean`, and the bytes they shuffled."""

    config: Configuration
    shuffles: dict[str, StageMetrics]
    dense_bytes: int
    """Bytes of text that no compression makes small."""


def settings(folder: Path, **section: Any) -> Configuration:
    return configuration(
        folder,
        columns={"id": "id", "label": "label", "group": "origin"},
        feature=[{"name": "tokens", "column": "text", "length": 6, "vocabulary": 300, "fit_bytes": 500_000}],
        publish=section,
        quality={"max_class_deviation": 1.0, "max_split_deviation": 1.0, "max_duplicate_share": 1.0},
    )


def texts_of_all_sizes() -> list[str]:
    """Return copies of one text, short texts, and some of 400 kB that cannot be compressed."""
    letters = bytes(97 + i % 26 for i in range(256))
    noise = random.Random(5).randbytes(DENSE * DENSE_WORDS * WORD).translate(letters).decode()
    words = [noise[i : i + WORD] for i in range(0, len(noise), WORD)]
    dense = [" ".join(words[i : i + DENSE_WORDS]) for i in range(0, len(words), DENSE_WORDS)]
    short = [f"record number {i} of the table" for i in range(SHORT)]
    return ["the same text, thousands of times over"] * COPIES + short + dense


def zipf(place: int) -> str:
    """Return a class; class k has about 1/k of the rows of class 1."""
    ends = [sum(1 / k for k in range(1, n + 1)) for n in range(1, CLASSES + 1)]
    share = (place * 7_919 % 10_007 + 0.5) / 10_007
    return f"class-{next(k for k, end in enumerate(ends) if share <= end / ends[-1])}"


@pytest.fixture(scope="module")
def large(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Published:
    config = settings(tmp_path_factory.mktemp("large"))
    texts = texts_of_all_sizes()
    rows: list[Row] = [(f"{n * 7_919 % 100_003:06d}", zipf(n), text, None) for n, text in enumerate(texts)]
    place = {"source_index": 0, "source_path": "a", "source_position": 0}
    fields = [
        {"record_id": i, **place, "label": label, "text": text, "origin": "one" if n % 3 else f"o{n}"}
        | {"text_characters_read": [len(text)], "text_characters": [len(text)]}
        for n, (i, label, text, _) in enumerate(rows)
    ]
    write_deltalake(Layout.of(config).fields, pa.Table.from_pylist(fields, fields_schema(config)))
    write_bronze(config, rows)
    before = {key: spark.conf.get(key, None) for key in AS_FOR_LARGE_DATA}
    for key, value in AS_FOR_LARGE_DATA.items():
        spark.conf.set(key, value)
    for stage in (deduplicate.STAGE, split.STAGE, encode.STAGE, Stage("publish", publish, lambda *_: None)):
        timed(stage, Run(spark, config))
    for key, old in before.items():
        spark.conf.unset(key) if old is None else spark.conf.set(key, old)
    dense = sum(len(text) for text in texts if 100_000 < len(text) < 1_000_000)
    return Published(config, {found.stage: found for found in persisted(config)}, dense)


def write_bronze(config: Configuration, rows: Sequence[Row]) -> None:
    layout = Layout.of(config)
    place = {"source_index": 0, "source_path": "a", "source_position": 0, "source_bytes": 9, "origin": "o"}
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


def shard_sizes(config: Configuration, rows_per_group: int) -> dict[str, list[int]]:
    """Return the rows of each shard by split, after checking that they are exact and cover every kept row."""
    manifest = manifests.load(manifests.newest(Layout.of(config).manifests))
    ledger = DeltaTable(Layout.of(config).ledger).to_pyarrow_table(columns=["record_id", "split"]).to_pylist()
    labels = {
        row["record_id"]: row["label"]
        for row in DeltaTable(Layout.of(config).fields)
        .to_pyarrow_table(columns=["record_id", "label"])
        .to_pylist()
    }
    sizes = {}
    for name, content in manifest.splits.items():
        ids: list[str] = []
        groups: list[int] = []
        for shard in content.shards:
            parquet = pq.ParquetFile(manifest.shard_uri(shard))
            held = [parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups)]
            assert held == shard.row_groups
            assert sum(held) == shard.rows
            groups += held
            ids += parquet.read(["record_id"])["record_id"].to_pylist()
        expected = [row["record_id"] for row in ledger if row["split"] == name]
        assert sorted(ids) == sorted(expected)
        found = {label: count for label, count in content.label_counts.items() if count}
        assert found == Counter(labels[one] for one in expected)
        assert all(rows == rows_per_group for rows in groups[:-1])
        sizes[name] = [shard.rows for shard in content.shards]
        assert max(sizes[name], default=0) - min(sizes[name], default=0) <= rows_per_group
    return sizes


def test_shards_are_exact_with_classes_by_zipf(large: Published) -> None:
    sizes = shard_sizes(large.config, 64)
    assert sum(map(sum, sizes.values())) == 1 + SHORT + DENSE
    train = sum(sizes["train"])
    # By default, so few rows get row groups of 64 rows, and a shard for every four of these.
    assert len(sizes["train"]) == -(-train // 64) // 4 > 2
    manifest = manifests.load(manifests.newest(Layout.of(large.config).manifests))
    counts = sorted(manifest.splits["train"].label_counts.values())
    assert counts[-1] > 10 * counts[len(counts) // 2] > 0


def test_no_task_reads_more_than_twice_the_records_of_the_median_one(large: Published) -> None:
    assert large.shuffles["deduplicate"].salted_keys == 1
    assert large.shuffles["split"].salted_keys >= 2
    for name in ("deduplicate", "split"):
        worst = large.shuffles[name].least_even
        assert worst is not None
        assert worst.tasks >= 4  # adaptive execution may cut a large one
        assert worst.ratio <= 2


def test_text_crosses_one_shuffle(large: Published) -> None:
    written = {name: found.written_bytes / large.dense_bytes for name, found in large.shuffles.items()}
    assert 0.9 < written["encode"] < 1.3
    for name in ("deduplicate", "split", "publish"):
        assert 0 < written[name] < 0.25, written


def test_one_class_of_nine_tenths_fewer_rows_than_shards_and_a_document_of_50_mb(
    spark: SparkSession, tmp_path: Path
) -> None:
    config = settings(tmp_path, shards=40, rows_per_group=1)
    of_ten = ["train"] * 8 + ["validation", "test"]
    sentence = " ".join(f"word{i}" for i in range(1_000)) + " "
    texts = [f"record {n}" if n != 13 else sentence * (50_000_000 // len(sentence)) for n in range(30)]
    rows: list[Row] = [
        (f"id-{n}", "common" if n % 10 else "rare", text, of_ten[n * 3 % 10]) for n, text in enumerate(texts)
    ]
    write_silver(config, rows)
    write_bronze(config, rows)
    encode.encode(Run(spark, config))
    publish(Run(spark, config))
    assert shard_sizes(config, 1) == {"train": [1] * 24, "validation": [1] * 3, "test": [1] * 3}
