"""Shards of one group each: every row in a shard of its group, groups under opaque numbers."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from common.errors import UsageError
from etl.publication import by_group
from etl.runs.run import Run
from etl.stages.encode import encode
from etl.versions.publishing import publish
from etl.versions.verification import findings
from schemas.config import Configuration
from schemas.manifest import Manifest
from schemas.tables import Layout, fields_schema
from tests.etl.example_tables import configuration
from tests.etl.test_encode import write_silver
from tests.etl.test_publish import ROWS, newest, write_bronze
from training.silos.order import silos_of

GROUPS = {record: None if n % 23 == 5 else f"person {n % 7 * n % 3}" for n, (record, *_) in enumerate(ROWS)}
"""Group of each record, by id; some have none."""


@pytest.fixture(scope="module")
def config(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Configuration:
    made = configuration(
        tmp_path_factory.mktemp("published"),
        feature=[{"name": "tokens", "column": "text", "length": 6, "vocabulary": 300}],
        columns={"id": "id", "label": "label", "group": "person"},
        publish={"rows_per_group": 16, "shards": 8, "by_group": True},
        split={"train": 0.8, "validation": 0.0, "test": 0.2},
        quality={"max_class_deviation": 1.0, "max_split_deviation": 1.0},
        balance={"policy": "oversample"},
    )
    write_silver(made, [*ROWS])
    write_bronze(made)
    fields = DeltaTable(Layout.of(made).fields).to_pyarrow_table().to_pylist()
    rows = [{**row, "person": GROUPS[row["record_id"]]} for row in fields]
    table = pa.Table.from_pylist(rows, schema=fields_schema(made))
    write_deltalake(Layout.of(made).fields, table, mode="overwrite")
    encode(Run(spark, made))
    publish(Run(spark, made))
    return made


def ids_of(manifest: Manifest, split: str) -> dict[int | None, set[str]]:
    found: defaultdict[int | None, set[str]] = defaultdict(set)
    for shard in manifest.splits[split].shards:
        ids = pq.read_table(manifest.shard_uri(shard), columns=["record_id"]).column(0).to_pylist()
        assert shard.rows == len(ids) == len(set(ids))
        assert not found[shard.silo] & set(ids)
        found[shard.silo] |= set(ids)
    return found


def test_each_silo_has_the_rows_of_one_group(config: Configuration) -> None:
    manifest = newest(config)
    found = ids_of(manifest, "train")
    wanted: defaultdict[Any, set[str]] = defaultdict(set)
    for record, _, _, split in ROWS:
        if split == "train":
            wanted[GROUPS[record]].add(record)
    assert set(found) == set(range(len(wanted)))  # numbered without a gap, and not by their names
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, wanted.values()))
    assert [shard.silo for shard in manifest.splits["train"].shards] == sorted(
        shard.silo for shard in manifest.splits["train"].shards if shard.silo is not None
    )
    assert len(manifest.splits["train"].shards) > len(wanted)  # large groups have several
    assert ids_of(manifest, "test") == {None: {one for one, _, _, split in ROWS if split == "test"}}
    assert findings(manifest, config.storage) == []
    silos = silos_of(manifest, "group")
    assert sum(silo.rows for silo in silos) == manifest.splits["train"].epoch_rows
    assert not any(str(group) in manifest.to_json().decode() for group in GROUPS.values() if group)


def test_publishing_again_gives_the_same(spark: SparkSession, config: Configuration) -> None:
    before = newest(config).manifest_root
    publish(Run(spark, config))
    assert newest(config).manifest_root == before


def test_too_many_groups_are_refused(
    spark: SparkSession, config: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_group, "MOST_GROUPS", 2)
    with pytest.raises(UsageError, match=r"more than 2 values of columns\.group = 'person'"):
        publish(Run(spark, config))


def test_it_needs_a_group_and_other_data_sets_keep_their_roots(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs columns\.group"):
        configuration(tmp_path, publish={"by_group": True})
    assert "by_group" not in configuration(tmp_path).data_sections()["publish"]
