"""publish: exact shards, one atomic version, a complete manifest; and verify, which finds every change."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from common.errors import DataError, QualityGateError, UsageError
from etl import verify
from etl.lake.log import open_table
from etl.lake.tables import read_table
from etl.publication import commit
from etl.publication.class_balance import of_train
from etl.publication.shards import shard_schema
from etl.runs.run import Run
from etl.stages.encode import encode
from etl.versions import verification
from etl.versions.publishing import publish, publish_version
from etl.versions.verification import findings
from provenance.checksums import sha256_of
from provenance.keys import key_sums, record_key
from schemas import manifest as manifests
from schemas.class_balance import ClassBalance
from schemas.config import Configuration
from schemas.manifest import Manifest
from schemas.settings import Balance, Train
from schemas.tables import Layout, quarantine_schema, records_schema, signatures_schema, sources_schema
from tests.data_sets import copy_of
from tests.etl.example_tables import configuration
from tests.etl.test_encode import write_silver

ROWS = [
    (
        f"id-{n}",
        {0: "notice", 1: "text"}.get(n % 10, "tag"),
        f"record number {n} of the table",
        "train" if n % 5 else "test",
    )
    for n in range(230)
]
TRAIN, TEST = 184, 46
IN_TRAIN = {"notice": 0, "tag": 161, "text": 23}
"""Rows of each class in the training split; `notice` occurs in the test split alone."""


def write_bronze(config: Configuration) -> None:
    layout = Layout.of(config)
    place = {
        "source_index": 0,
        "source_path": "a",
        "source_position": 0,
        "source_bytes": 9,
        "time_seconds": None,
    }
    records = [{"record_id": i, **place, "label": label, "text": text} for i, label, text, _ in ROWS]
    quarantined = [
        {"source_index": 0, "source_path": "a", "source_position": 7, "reason": "invalid_json"}
        | {"detail": "it ends too early", "raw": b"{"}
    ]
    source = {"source_index": 0, "source_path": "a", "bytes": 99, "sha256": "0" * 64, "status": "read"}
    sources = [{**source, "records": len(ROWS) + 1, "quarantined": 1}]
    for uri, rows, schema in (
        (layout.records, records, records_schema(config)),
        (layout.quarantine, quarantined, quarantine_schema()),
        (layout.sources, sources, sources_schema()),
        (layout.signatures, [], signatures_schema()),
    ):
        columns = {field.name: [row.get(field.name) for row in rows] for field in schema}
        write_deltalake(uri, pa.table(columns, schema=schema), mode="overwrite")


def newest(config: Configuration) -> Manifest:
    layout = Layout.of(config)
    return manifests.load(manifests.newest(layout.manifests))


def files_of(manifest: Manifest) -> list[Path]:
    return [Path(manifest.shard_uri(s)) for c in manifest.splits.values() for s in c.shards]


@pytest.fixture(scope="module")
def published(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Configuration:
    """Publish a data set that tests only look at; a test that changes one starts from a copy."""
    config = configuration(
        tmp_path_factory.mktemp("published"),
        feature=[{"name": "tokens", "column": "text", "length": 6, "vocabulary": 300}],
        publish={"rows_per_group": 16, "shards": 5},
        split={"train": 0.8, "validation": 0.0, "test": 0.2},
        quality={"max_class_deviation": 1.0, "max_split_deviation": 1.0},
    )
    write_silver(config, [*ROWS])
    write_bronze(config)
    encode(Run(spark, config))
    publish(Run(spark, config))
    return config


def test_shards_are_exact_and_the_manifest_says_so(published: Configuration) -> None:
    manifest = newest(published)
    assert manifest.content.counts == {
        "records_in": 231,
        "quarantined": 1,
        "filtered": 0,
        "exact_duplicates": 0,
        "near_duplicates": 0,
        "published": 230,
    }
    assert {split: content.rows for split, content in manifest.splits.items()} == {
        "train": TRAIN,
        "validation": 0,
        "test": TEST,
    }
    assert [s.rows for s in manifest.splits["train"].shards] == [32, 32, 32, 48, 40]
    assert [s.row_groups for s in manifest.splits["train"].shards][-1] == [16, 16, 8]
    for split, content in manifest.splits.items():
        ids: list[str] = []
        for shard in content.shards:
            file = Path(manifest.shard_uri(shard))
            assert sha256_of(str(file)) == (shard.sha256, shard.bytes)
            assert file.name == f"{shard.sha256}.parquet"
            parquet = pq.ParquetFile(file)
            groups = [parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups)]
            assert groups == shard.row_groups
            rows = parquet.read().to_pylist()
            assert all(row["record_key"] == record_key(row["record_id"]) for row in rows)
            assert all(len(row["tokens"]) == 12 for row in rows)
            ids += [row["record_id"] for row in rows]
        assert sorted(ids) == sorted(i for i, _, _, s in ROWS if s == split)
        keys = np.frombuffer(b"".join(record_key(i) for i in ids), "<u8").reshape(-1, 2)
        assert content.key_sums == key_sums(keys)
        assert sum(content.label_counts.values()) == content.rows


def rebalanced(config: Configuration, **balance: Any) -> Configuration:
    return config.model_copy(update={"balance": Balance(**balance)})


def test_what_a_policy_comes_to_is_stated_and_no_row_is_copied(
    spark: SparkSession, published: Configuration, tmp_path: Path
) -> None:
    """Only the stage publish runs again with another policy: the encoded rows stay as they are."""
    config = copy_of(published, tmp_path)
    plain = newest(published)
    assert plain.splits["train"].label_counts == IN_TRAIN
    assert plain.splits["train"].balance.policy == "none"
    publish(Run(spark, rebalanced(config, policy="oversample", most=5)))
    manifest, taken = newest(config), {"notice": 1, "tag": 1, "text": 5}
    train, labels = manifest.splits["train"], {i: label for i, label, _, _ in ROWS}
    assert train.balance == ClassBalance(policy="oversample", repeats=taken)
    assert (train.rows, train.epoch_rows) == (TRAIN, 161 + 5 * 23)
    # The same files, so the same bytes; only the rows taken from them differ.
    assert [s.sha256 for s in train.shards] == [s.sha256 for s in plain.splits["train"].shards]
    assert manifest.manifest_root != plain.manifest_root
    ids: list[str] = []
    for shard in train.shards:
        parquet = pq.ParquetFile(manifest.shard_uri(shard))
        groups = []
        for number in range(parquet.num_row_groups):
            found = parquet.read_row_group(number, columns=["record_id"])["record_id"].to_pylist()
            repeated = [one for one in found for _ in range(taken[labels[one]])]
            groups.append(len(repeated))
            ids += repeated
        assert shard.epoch_row_groups == groups
    keys = np.frombuffer(b"".join(map(record_key, ids)), "<u8").reshape(-1, 2)
    assert train.epoch_key_sums == key_sums(keys) != train.key_sums
    for split in ("validation", "test"):
        assert manifest.splits[split] == plain.splits[split]
    assert verify.main([manifests.newest(Layout.of(config).manifests)]) == 0


def test_the_rows_that_training_takes_are_stated_and_all_are_published(
    spark: SparkSession, published: Configuration, tmp_path: Path
) -> None:
    config = copy_of(published, tmp_path)
    plain = newest(published)
    taking = config.model_copy(update={"train": Train(where={"label": "text"})})
    publish(Run(spark, taking))
    train = newest(config).splits["train"]
    assert train.balance == ClassBalance(policy="where", repeats={"notice": 0, "tag": 0, "text": 1})
    assert (train.rows, train.epoch_rows) == (TRAIN, IN_TRAIN["text"])
    assert [s.sha256 for s in train.shards] == [s.sha256 for s in plain.splits["train"].shards]
    keys = [record_key(one) for one, label, _, split in ROWS if (label, split) == ("text", "train")]
    assert train.epoch_key_sums == key_sums(np.frombuffer(b"".join(keys), "<u8").reshape(-1, 2))
    for split in ("validation", "test"):
        assert newest(config).splits[split] == plain.splits[split]
    unknown = config.model_copy(update={"train": Train(where={"label": ["text", "TEXT"]})})
    with pytest.raises(UsageError, match="names the class 'TEXT'"):
        publish(Run(spark, unknown))


def test_weights_come_from_the_rows_of_the_training_split(
    spark: SparkSession, published: Configuration
) -> None:
    encoded = read_table(spark, Layout.of(published).encoded)
    weights = of_train(encoded, Balance(policy="weights", strength="square_root"), [*IN_TRAIN]).weights
    assert weights["notice"] == 0
    assert weights["text"] / weights["tag"] == pytest.approx((161 / 23) ** 0.5)
    assert sum(weights[name] * rows for name, rows in IN_TRAIN.items()) == pytest.approx(TRAIN)


def test_spark_reads_the_version_as_any_delta_table(spark: SparkSession, published: Configuration) -> None:
    frame = spark.read.format("delta").load(Layout.of(published).shards)
    assert {(r["record_id"], r["split"]) for r in frame.collect()} == {(i, s) for i, _, _, s in ROWS}
    table = DeltaTable(Layout.of(published).shards)
    assert table.metadata().configuration["delta.enableDeletionVectors"] == "false"
    assert set(table.get_add_actions(flatten=True).column("num_records").to_pylist()) <= {32, 40, 48, 46}


def test_a_rerun_completes_what_a_crash_left_and_publishes_nothing_new(
    spark: SparkSession, published: Configuration, tmp_path: Path
) -> None:
    config = copy_of(published, tmp_path)
    first = newest(config)
    location = Path(manifests.newest(Layout.of(config).manifests))
    location.unlink()  # as if the driver had died between commit and manifest
    counts = publish(Run(spark, config))
    text = location.read_bytes()
    assert newest(config).manifest_root == first.manifest_root
    assert publish(Run(spark, config)) == counts
    assert location.read_bytes() == text
    assert DeltaTable(Layout.of(config).shards).version() == counts["delta_version"] == first.delta_version


def test_a_failing_gate_publishes_nothing(
    spark: SparkSession, published: Configuration, tmp_path: Path
) -> None:
    config = copy_of(published, tmp_path)
    for never_published in (Layout.of(config).shards, Layout.of(config).manifests):
        shutil.rmtree(never_published)
    strict = config.model_copy(
        update={"quality": config.quality.model_copy(update={"max_quarantine_share": 0.001})}
    )
    with pytest.raises(QualityGateError, match="quarantine") as caught:
        publish_version(spark, strict, 0.0)
    assert caught.value.exit_status == 3
    assert open_table(Layout.of(config).shards, config.storage) is None
    report = (Path(Layout.of(config).quality) / "report.html").read_text(encoding="utf-8")
    assert "Nothing was published" in report
    with pytest.raises(UsageError, match="no manifest"):
        manifests.newest(Layout.of(config).manifests)


def test_of_two_publications_at_once_one_loses(
    published: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = copy_of(published, tmp_path)
    standing, shards = newest(config), Layout.of(config).shards
    stale = open_table(shards, config.storage)
    schema, winner = shard_schema(config), "e" * 64
    assert commit.commit([], schema, winner, shards, config.storage) == (standing.delta_version + 1, True)
    monkeypatch.setattr(commit, "open_table", lambda *_: stale)
    with pytest.raises(DataError, match="another run published at the same time"):
        commit.commit([], schema, "f" * 64, shards, config.storage)
    monkeypatch.undo()
    table = open_table(shards, config.storage)
    assert table is not None
    assert commit.committed(table) == (standing.delta_version + 1, winner)
    assert findings(standing, config.storage) == []


@pytest.mark.parametrize(
    "section", [{"split": {"seed": 9}}, {"deduplicate": {"similarity": 0.5}}, {"clean": {"rules": []}}]
)
def test_what_another_configuration_made_is_not_sealed(
    spark: SparkSession, published: Configuration, section: dict[str, Any]
) -> None:
    name, changes = next(iter(section.items()))
    other = published.model_copy(update={name: getattr(published, name).model_copy(update=changes)})
    before = manifests.newest(Layout.of(published).manifests)
    with pytest.raises(UsageError, match="made by another configuration of the data"):
        publish(Run(spark, other))
    assert manifests.newest(Layout.of(published).manifests) == before


def test_a_ledger_that_changed_after_encode_is_not_sealed(
    spark: SparkSession, published: Configuration, tmp_path: Path
) -> None:
    config = copy_of(published, tmp_path)
    write_silver(config, [*ROWS])  # new versions of fields and ledger
    with pytest.raises(UsageError, match=r"has changed since .*encoded was made; run the stage encode again"):
        publish(Run(spark, config))


@pytest.mark.thorough
def test_a_damaged_manifest_is_written_anew(
    spark: SparkSession, published: Configuration, tmp_path: Path
) -> None:
    config = copy_of(published, tmp_path)
    root, location = newest(config).manifest_root, Path(manifests.newest(Layout.of(config).manifests))
    location.write_text("{}", encoding="utf-8")
    publish(Run(spark, config))
    assert newest(config).manifest_root == root
    assert verify.main([str(location)]) == 0


def test_encoding_with_other_features_is_refused(spark: SparkSession, published: Configuration) -> None:
    words = published.feature[0].model_copy(update={"name": "words"})
    renamed = published.model_copy(update={"feature": [words]})
    with pytest.raises(UsageError, match="run the stage encode and those after it again"):
        publish(Run(spark, renamed))


def test_verify_names_every_damaged_missing_and_foreign_file(
    published: Configuration, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = copy_of(published, tmp_path)
    manifest = newest(config)
    location = manifests.newest(Layout.of(config).manifests)
    assert verify.main([location]) == 0
    assert manifest.manifest_root in capsys.readouterr().out
    left_over = Path(manifest.table_uri) / "split=train" / ".0123.part"
    left_over.write_bytes(b"of an attempt that failed")
    assert verify.main([location]) == 0
    flipped, missing, *_ = files_of(manifest)
    status = flipped.stat()
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    os.utime(flipped, ns=(status.st_atime_ns, status.st_mtime_ns))
    missing.unlink()
    tokenizer = Path(manifest.artifact_uri(manifest.content.artifacts[0].sha256))
    tokenizer.write_bytes(tokenizer.read_bytes() + b" ")
    capsys.readouterr()
    assert verify.main([location]) == 1
    told = capsys.readouterr().err
    assert f"{flipped} is damaged" in told
    assert f"{missing} is missing" in told
    assert f"{tokenizer} is damaged" in told
    assert "3 of its files" in told


def test_verify_names_a_file_that_only_the_table_lists(
    published: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, config = newest(published), published
    paths = commit.listed_files(manifest.table_uri, manifest.delta_version, config.storage)
    monkeypatch.setattr(verification, "listed_files", lambda *_: [*paths[1:], "split=train/foreign.parquet"])
    found = findings(manifest, config.storage)
    assert len(found) == 2
    assert "split=train/foreign.parquet is foreign" in found[0]
    assert f"{paths[0]} is not in version" in found[1]


def test_verify_needs_to_know_which_version(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="say which version"):
        verify.main([])
    altered = tmp_path / "m.json"
    altered.write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="is not a manifest"):
        verify.main([str(altered)])
