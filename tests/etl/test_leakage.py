from dataclasses import dataclass

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from etl.duplicates import leakage
from etl.duplicates.leakage import leakage_sample
from etl.runs.run import Run
from etl.stages.deduplicate import deduplicate
from etl.stages.split import split
from schemas.config import Configuration
from schemas.tables import Layout
from tests.etl import documents


@dataclass(frozen=True)
class Kept:
    """A data set whose duplicates were all kept, and its ledger."""

    config: Configuration
    texts: dict[str, str]
    clusters: dict[str, str]
    splits: dict[str, str]


@pytest.fixture(scope="module")
def kept(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    config = documents.configuration(
        tmp_path_factory.mktemp("kept"),
        deduplicate={"duplicates": "keep"},
        split={"train": 0.5, "validation": 0.2, "test": 0.3, "seed": 0},
    )
    texts = {f"r{i}": text for i, text in enumerate(documents.planted(5))}
    documents.write_fields(config, [{"record_id": name, "text": text} for name, text in texts.items()])
    deduplicate(Run(spark, config))
    split(Run(spark, config))
    ledger = DeltaTable(Layout.of(config).ledger).to_pyarrow_table().to_pylist()
    return Kept(
        config,
        texts,
        {row["record_id"]: row["cluster_id"] for row in ledger},
        {row["record_id"]: row["split"] for row in ledger},
    )


def test_no_cluster_lies_in_two_splits_when_duplicates_are_kept(kept: Kept) -> None:
    places = {(kept.clusters[name], place) for name, place in kept.splits.items()}
    assert len({cluster for cluster, _ in places}) == len(places)
    assert len(places) < len(kept.texts)
    assert set(kept.splits.values()) == {"train", "validation", "test"}


def test_no_similar_texts_lie_in_two_splits(kept: Kept) -> None:
    names = list(kept.texts)
    for group in documents.clusters_of(list(kept.texts.values())):
        assert len({kept.splits[names[i]] for i in group}) == 1


def splits_of(spark: SparkSession, kept: Kept) -> DataFrame:
    return spark.createDataFrame(list(kept.splits.items()), "record_id string, split string")


def nearest(kept: Kept, name: str) -> float:
    own = kept.texts[name]
    train = [text for other, text in kept.texts.items() if kept.splits[other] == "train"]
    return max(
        documents.jaccard(documents.shingles(own), documents.shingles(other)) * documents.alike(own, other)
        for other in train
    )


@pytest.mark.parametrize("ids_at_once", [0, 1_000])
def test_similarity_of_test_rows_to_their_nearest_training_row(
    spark: SparkSession, kept: Kept, monkeypatch: pytest.MonkeyPatch, ids_at_once: int
) -> None:
    """The ids of the training split go to every executor, or are too many for that and are joined."""
    monkeypatch.setattr(leakage, "IDS_AT_ONCE", ids_at_once)
    found = leakage_sample(spark, kept.config, splits_of(spark, kept), rows=1_000)
    assert list(found.columns) == ["record_id", "highest_similarity"]
    names = found["record_id"].tolist()
    assert names == sorted(names)
    # One row for each distinct text of the test split.
    in_test = {documents.form(text) for name, text in kept.texts.items() if kept.splits[name] == "test"}
    assert len(names) == len(in_test) == len({documents.form(kept.texts[name]) for name in names})
    assert {kept.splits[name] for name in names} == {"test"}
    assert found["highest_similarity"].tolist() == pytest.approx([nearest(kept, name) for name in names])
    assert 0.2 < found["highest_similarity"].max() < 0.8


def test_the_sample_is_chosen_by_hash_and_the_same_every_time(spark: SparkSession, kept: Kept) -> None:
    some = leakage_sample(spark, kept.config, splits_of(spark, kept), rows=7)
    everything = leakage_sample(spark, kept.config, splits_of(spark, kept), rows=1_000)
    assert len(some) == 7
    assert some.equals(leakage_sample(spark, kept.config, splits_of(spark, kept), rows=7))
    merged = some.merge(everything, on=["record_id", "highest_similarity"], how="inner")
    assert len(merged) == 7
