"""The summary of a data set with hand-counted figures."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from common.errors import CheckError, UsageError
from etl.figures.facts import Cluster, Lengths, RuleEffect, ShardFacts, SourceFacts, Summary, TokenFacts
from etl.figures.summary import summarise
from schemas.tables import Layout
from tests.etl.example_tables import configuration, write_small_data_set

SHARDS = {
    "train": [ShardFacts(2, [2], 100), ShardFacts(1, [1], 60)],
    "validation": [ShardFacts(1, [1], 60)],
    "test": [ShardFacts(1, [1], 60)],
}


@pytest.fixture(scope="module")
def summary(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Summary:
    config = configuration(tmp_path_factory.mktemp("summary"))
    write_small_data_set(config)
    return summarise(spark, config, SHARDS)


def test_every_record_is_counted_where_it_ended(summary: Summary) -> None:
    assert summary.counts() == {
        "records_in": 13,  # 12 of a.jsonl, and b.jsonl, which cannot be read, counts as one
        "quarantined": 3,
        "filtered": 2,
        "exact_duplicates": 2,
        "near_duplicates": 1,
        "published": 5,
    }
    assert summary.quarantined_by_reason == {"invalid_json": 2, "unreadable_file": 1}
    assert summary.filtered_by_rule == {"character_ratio": 1, "length": 1}
    assert summary.published == summary.encoded == {"train": 3, "validation": 1, "test": 1}
    sizes = dict.fromkeys(
        ("lines", "quarantined_lines", "bytes", "quarantined_bytes"), 0
    )  # told by no file here
    assert summary.sources == [SourceFacts(0, "in/*.jsonl", "jsonl", 2, 1, 1000, 13, 3, sizes)]
    summary.check_accounting()


def test_rules_classes_and_clusters(summary: Summary) -> None:
    assert summary.effects == {
        "character_ratio": RuleEffect(1, 1),
        "emails": RuleEffect(2, 2),
        "length": RuleEffect(1, 1),
        "white_space": RuleEffect(2, 3),
    }
    assert summary.classes_before == {"notice": 5, "text": 3, "tag": 2}
    assert summary.classes == {
        "train": {"text": 2, "notice": 1},
        "validation": {"text": 1},
        "test": {"notice": 1},
    }
    assert summary.class_groups == {"notice": 2, "text": 3}
    assert summary.unlabelled == 0
    assert summary.cluster_sizes == {1: 3, 2: 1, 3: 1}
    assert summary.largest_clusters == [Cluster("a1", 3, "a1"), Cluster("d1", 2, "d1")]


def test_lengths_before_and_after(summary: Summary) -> None:
    # Published: 8, 45, 100, 31 and 32 characters; 31 and 32 lie on either side of a power of two.
    assert summary.characters["text"]["published"] == Lengths(5, 216, 100, {3: 1, 4: 1, 5: 2, 6: 1})
    read = summary.characters["text"]["read"]
    assert (read.rows, read.maximum, read.bins[-1]) == (10, 100, 1)
    assert summary.tokens["tokens"] == {
        "train": TokenFacts(
            Lengths(3, 107, 64, {1: 1, 5: 1, 6: 1}), 32, 8 + 32, 2, {"50": 26, "90": 54, "99": 63}
        ),
        "validation": TokenFacts(Lengths(1, 4, 4, {2: 1}), 32, 0, 0, {"50": 2, "90": 4, "99": 4}),
        "test": TokenFacts(Lengths(1, 5, 5, {2: 1}), 32, 0, 0, {"50": 3, "90": 5, "99": 5}),
    }


def test_a_record_that_the_ledger_lost_breaks_the_accounting(spark: SparkSession, tmp_path: Path) -> None:
    config = configuration(tmp_path)
    write_small_data_set(config)
    ledger = DeltaTable(Layout.of(config).ledger).to_pyarrow_table()
    without = ledger.filter(pa.compute.not_equal(ledger["record_id"], "b2"))
    write_deltalake(Layout.of(config).ledger, without, mode="overwrite")
    summary = summarise(spark, config, SHARDS)
    with pytest.raises(CheckError, match=r"do not add up: 13 were read, but .* = 12"):
        summary.check_accounting()
    # The version before is still there, and still adds up.
    summarise(spark, config, SHARDS, {"ledger": 0}).check_accounting()


def test_a_shard_that_lacks_a_row_is_found(summary: Summary) -> None:
    short = Summary(**{**vars(summary), "shards": {**SHARDS, "train": SHARDS["train"][:1]}})
    with pytest.raises(CheckError, match="the split train has 3 published records, but 2 in the shards"):
        short.check_accounting()


def test_groups_are_those_of_the_group_column_where_they_are_fewer(
    spark: SparkSession, tmp_path: Path
) -> None:
    config = configuration(tmp_path, columns={"id": "id", "label": "label", "group": "origin"})
    write_small_data_set(config)
    fields = DeltaTable(Layout.of(config).fields).to_pyarrow_table()
    place = fields.column_names.index("origin")
    one_origin = pa.array(["same"] * len(fields), pa.string())
    write_deltalake(
        Layout.of(config).fields, fields.set_column(place, "origin", one_origin), mode="overwrite"
    )
    assert summarise(spark, config, SHARDS).class_groups == {"notice": 1, "text": 1}


def test_no_text_is_read(spark: SparkSession, tmp_path: Path, summary: Summary) -> None:
    config = configuration(tmp_path)
    write_small_data_set(config)
    for uri in (Layout.of(config).records, Layout.of(config).fields):
        without = DeltaTable(uri).to_pyarrow_table().drop_columns(["text"])
        write_deltalake(uri, without, mode="overwrite", schema_mode="overwrite")
    assert summarise(spark, config, SHARDS) == summary


def test_a_table_of_an_earlier_version_of_the_product_is_named(spark: SparkSession, tmp_path: Path) -> None:
    config = configuration(tmp_path)
    write_small_data_set(config)
    fields = DeltaTable(Layout.of(config).fields).to_pyarrow_table().drop_columns(["text_characters"])
    write_deltalake(Layout.of(config).fields, fields, mode="overwrite", schema_mode="overwrite")
    with pytest.raises(
        UsageError, match=r"silver/fields was written by an earlier version .* stage clean again"
    ):
        summarise(spark, config, SHARDS)


def test_a_missing_table_is_named(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="bronze/sources"):
        summarise(spark, configuration(tmp_path), SHARDS)
