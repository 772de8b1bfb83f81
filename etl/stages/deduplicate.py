"""Finds exact and near-duplicates among the cleaned texts, and decides which record of each cluster survives.

Reads silver/fields. Writes silver/signatures (a row for each distinct text) and silver/ledger (a row for each
record of bronze). Filtered records take no part.

- Records with equal token sequences are copies of one text. Each text has a representative: the record that comes
  first by `survivor` (longest: most characters of cleaned text; first: by place in the sources; newest: largest
  time; ties by record_id).
- Texts whose shingle sets have a Jaccard similarity of at least `similarity` are near-duplicates. Clusters are the
  connected components; a cluster's survivor is the first of its representatives by the same policy.
- `cluster_id` is the survivor's record_id; so a record without any duplicate is its own cluster.
- With `duplicates = "drop"` the survivor is `kept`, other representatives are `near_duplicate`, and all other
  records `exact_duplicate` (of a representative in the same cluster); `reason` is the survivor's record_id. With
  "keep" all are `kept`.

Texts go through one narrow pass from silver/fields into hashes and never cross a shuffle.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.duplicates.later_records import (
    Earlier,
    clusters_of_texts,
    earlier_clusters,
    to_compare_with,
)
from etl.duplicates.near_duplicates import near_duplicate_clusters
from etl.duplicates.sketching import _SKETCHED_RECORDS, group_by_text, select_signatures, with_sketches
from etl.duplicates.survivors import build_ledger, hot_texts_and_clusters, ledger_of_joined, with_survivor
from etl.lake.log import Commit
from etl.lake.tables import read_table, restore_to, write_table
from etl.runs.completion import Stage, by_the_log
from etl.runs.state import deduplicated_from, fields_basis, goes_on_from
from etl.spark.persist import kept
from etl.spark.session import spark_progress
from etl.splits.earlier_records import STAYING, splits_stay, with_splits_of
from schemas.config import Configuration
from schemas.tables import STATUSES, Layout, ledger_schema, signatures_schema


def deduplicate(spark: SparkSession, config: Configuration) -> Mapping[str, int]:
    """Writes silver/signatures and silver/ledger; returns the number of records by status, and `salted_keys` if any."""
    layout = Layout.of(config)
    with spark_progress(spark, "deduplicate"):
        source = Commit.existing(layout.fields, config.storage)
        facts: dict[str, object] = {"made_from": fields_basis("deduplicate", config, source.identity)}
        ledger = Commit.of(layout.ledger, config.storage)
        going_on = None if ledger is None else goes_on_from(spark, config, ledger.facts, source.identity)
        if going_on is None:
            fields = read_table(spark, layout.fields, source.version)
            earlier = None
            if ledger is not None and splits_stay(ledger.facts, config):
                earlier = read_table(spark, layout.ledger, ledger.version)
                facts[STAYING] = ledger.facts[STAYING]
            salted = deduplicate_fields(fields, config, facts, earlier)
        else:
            after, new = going_on
            salted = deduplicate_later(new, config, after, {**facts, "after": after})
        return count_statuses(read_table(spark, layout.ledger)) | ({"salted_keys": salted} if salted else {})


def deduplicate_fields(
    fields: DataFrame,
    config: Configuration,
    facts: Mapping[str, object] = MappingProxyType({}),
    earlier: DataFrame | None = None,
) -> int:
    """The same for any frame with the columns of silver/fields that it needs; returns the number of salted keys.

    The frame's rows have to come in the same order whenever they are computed: which of equal texts carries the
    shingles depends on it. `facts` are noted in the commits of both tables. `earlier`: a ledger whose splits stay.
    """
    layout = Layout.of(config)
    with ExitStack() as stack:
        sketches = stack.enter_context(kept(with_sketches(fields, config)))
        records = stack.enter_context(kept(sketches.select(_SKETCHED_RECORDS.names)))
        texts = stack.enter_context(kept(group_by_text(records, config)))
        signatures = select_signatures(sketches, texts)
        write_table(signatures, layout.signatures, signatures_schema(), config, "deduplicate", facts)
        sketches.unpersist()  # it is as large as the texts
        found = near_duplicate_clusters(
            read_table(fields.sparkSession, layout.signatures), config.deduplicate.similarity
        )
        clusters = stack.enter_context(kept(found))
        hot_texts, hot_clusters = hot_texts_and_clusters(texts, clusters)
        survivors = with_survivor(texts, clusters, hot_clusters)
        ledger = build_ledger(fields, records, survivors, config, hot_texts)
        if earlier is not None:
            ledger = with_splits_of(ledger, earlier)
        write_table(ledger, layout.ledger, ledger_schema(), config, "deduplicate", facts)
        return len(hot_texts) + len(hot_clusters)


def deduplicate_later(
    new: DataFrame, config: Configuration, after: Mapping[str, Any], facts: Mapping[str, object]
) -> int:
    """The same for the rows that silver/fields has had added; those of before stay in both tables as they are.

    A new record whose text is that of an earlier one, or whose cluster has an earlier text in it, belongs to the
    cluster of that. `after`: what the ledger notes of the run before.
    """
    spark, layout = new.sparkSession, Layout.of(config)
    restore_to(spark, layout.signatures, after["signatures"], config.storage)
    earlier = Earlier(
        read_table(spark, layout.signatures), read_table(spark, layout.ledger, after["version"])
    )
    with ExitStack() as stack:
        sketches = stack.enter_context(kept(with_sketches(new, config)))
        records = stack.enter_context(kept(sketches.select(_SKETCHED_RECORDS.names)))
        texts = stack.enter_context(kept(group_by_text(records, config)))
        signatures = stack.enter_context(kept(select_signatures(sketches, texts)))
        of_texts = stack.enter_context(kept(clusters_of_texts(earlier)))
        # Earlier texts without a cluster belong to records that were left out; a later copy may stay.
        unknown = signatures.join(of_texts.select("text_hash"), "text_hash", "left_anti")
        placed = earlier.signatures.join(of_texts.select("text_hash"), "text_hash", "left_semi")
        compared = stack.enter_context(kept(unknown.unionByName(to_compare_with(unknown, placed))))
        found = near_duplicate_clusters(compared, config.deduplicate.similarity)
        clusters = stack.enter_context(kept(found))
        joined = stack.enter_context(kept(earlier_clusters(clusters, texts, of_texts)))
        # Clusters of new texts alone are found out as in a first run.
        own_texts = texts.join(joined.select("text_hash"), "text_hash", "left_anti")
        own_clusters = clusters.join(
            own_texts.select(F.col("text_hash").alias("member")), "member", "left_semi"
        )
        own = build_ledger(new, records, with_survivor(own_texts, own_clusters), config)
        ledger = earlier.ledger.unionByName(own).unionByName(ledger_of_joined(records, texts, joined, config))
        schema = signatures_schema()
        added = signatures.join(earlier.signatures.select("text_hash"), "text_hash", "left_anti")
        write_table(added, layout.signatures, schema, config, "deduplicate", facts, append=True)
        write_table(ledger, layout.ledger, ledger_schema(), config, "deduplicate", facts)
    return 0


def count_statuses(ledger: DataFrame) -> dict[str, int]:
    """Number of records by status, every status included."""
    found = {row["status"]: int(row["count"]) for row in ledger.groupBy("status").count().collect()}
    return {status: found.get(status, 0) for status in STATUSES}


def deduplicated(config: Configuration) -> bool:
    """Whether `deduplicate` is complete."""
    layout = Layout.of(config)
    fields, signatures, ledger = (
        Commit.of(uri, config.storage) for uri in (layout.fields, layout.signatures, layout.ledger)
    )
    if fields is None or signatures is None or ledger is None:
        return False
    basis = fields_basis("deduplicate", config, fields.identity)
    # Records that were left out for their split lost their cluster: another split begins before that.
    split_from = fields_basis("split", config, fields.identity)
    if ledger.facts.get("conflicts") and not ledger.is_by("split", split_from):
        return False
    return signatures.is_by("deduplicate", basis) and deduplicated_from(ledger.facts) == basis


STAGE = Stage("deduplicate", deduplicate, by_the_log(deduplicated))
