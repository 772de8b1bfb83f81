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

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from common.command import run
from etl.duplicates.hash_lists import packed
from etl.duplicates.later_records import (
    SPLIT_CONFLICT,
    Earlier,
    clusters_of_texts,
    earlier_clusters,
    to_compare_with,
)
from etl.duplicates.minhash import Banding, sketch
from etl.duplicates.near_duplicates import near_duplicate_clusters
from etl.lake.log import Commit
from etl.lake.tables import read_table, restore_to, write_table
from etl.runs.completion import fields_basis, goes_on_from
from etl.runs.stage import stage_main
from etl.spark.arrow_batches import parts_of
from etl.spark.persist import kept
from etl.spark.session import spark_progress
from etl.spark.skew import NO_HOT_KEYS, HotKeys, hot_keys, salted_join
from etl.splits.earlier_records import STAYING, splits_stay, with_splits_of
from schemas.config import Configuration
from schemas.tables import STATUSES, Layout, ledger_schema, signatures_schema, spark_schema

BATCH_BYTES = 1 << 20  # of text sketched at a time: the kernel's arrays stay in the processor's caches
BROADCAST_TEXTS = 1_000_000  # with copies; some 100 MB in every executor
REMEMBERED = 1 << 17  # hashes of texts that a task has sketched; some 15 MB

_SKETCHED_RECORDS = pa.schema(
    [
        ("record_id", pa.string()),
        ("source_index", pa.int32()),
        ("source_path", pa.string()),
        ("source_position", pa.int64()),
        ("time_seconds", pa.float64()),
        ("length", pa.int32()),  # characters of the cleaned text
        ("text_hash", pa.binary()),
        ("carrier", pa.bool_()),  # of bands and shingles; false where the task has sketched that text before
    ]
)
_SKETCHES = pa.schema(
    [
        *_SKETCHED_RECORDS,
        ("bands", pa.list_(pa.int64())),
        ("shingles", pa.binary()),  # as in silver/signatures
    ]
)


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


def ledger_of_joined(
    records: DataFrame, texts: DataFrame, joined: DataFrame, config: Configuration
) -> DataFrame:
    """The rows of the ledger of new records that belong to an earlier cluster, or to several."""
    none = F.lit(None).cast("string")
    # Wherever it went, a near-copy of it would be in another split.
    conflict = F.size("splits") > 1
    if config.deduplicate.duplicates == "keep":
        status, reason = F.lit("kept"), none
    else:
        is_first = F.col("record_id") == F.col("rank.record_id")
        status = F.when(F.col("is_copy") | ~is_first, "exact_duplicate").otherwise("near_duplicate")
        reason = F.col("earlier_cluster")
    ranked = texts.select("text_hash", "rank")
    return (
        records.select("record_id", "source_path", "text_hash")
        .join(ranked, "text_hash")
        .join(joined, "text_hash")
        .select(
            "record_id",
            F.col("source_path").alias("source"),
            F.when(conflict, "filtered").otherwise(status).alias("status"),
            F.when(conflict, SPLIT_CONFLICT).otherwise(reason).alias("reason"),
            F.when(conflict, none).otherwise(F.col("earlier_cluster")).alias("cluster_id"),
            none.alias("split"),
        )
    )


def with_sketches(fields: DataFrame, config: Configuration) -> DataFrame:
    """A row of _SKETCHES for each record that is not filtered."""
    settings = config.deduplicate
    banding = Banding.for_similarity(settings.similarity)

    def sketched(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        seen: set[bytes] = set()
        for batch in batches:
            for part in parts_of(batch, ["text"], BATCH_BYTES):
                if len(seen) > REMEMBERED:
                    seen.clear()
                yield _sketch_batch(part, settings.shingle, banding, seen)

    columns = _SKETCHES.names[:5]
    text = F.col(config.deduplicated_column()).alias("text")
    unfiltered = fields.where("filtered_by IS NULL").select(*columns, text)
    return unfiltered.mapInArrow(sketched, spark_schema(_SKETCHES))


def _sketch_batch(batch: pa.RecordBatch, shingle: int, banding: Banding, seen: set[bytes]) -> pa.RecordBatch:
    sketches = sketch(batch["text"], shingle, banding, seen)
    filled = sketches.offsets[1:] > sketches.offsets[:-1]
    band_offsets = pa.array([0, *(filled.cumsum() * banding.bands).tolist()], pa.int32())
    columns = {name: batch[name] for name in _SKETCHES.names[:5]} | {
        "length": pc.fill_null(pc.utf8_length(batch["text"]), 0).cast(pa.int32()),
        "text_hash": pa.array(sketches.text_hash, pa.binary()),
        "carrier": pa.array(sketches.carrier),
        "bands": pa.ListArray.from_arrays(band_offsets, sketches.bands.ravel()),
        "shingles": packed(sketches.values, sketches.offsets),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in _SKETCHES.names], schema=_SKETCHES)


def survivor_rank(config: Configuration) -> Column:
    """A struct by which the smaller record survives; its last field is the record_id, so that no two are equal."""
    policies: Mapping[str, list[Column]] = {
        "longest": [-F.col("length")],
        "first": [F.col("source_index"), F.col("source_path"), F.col("source_position")],
        "newest": [F.col("time_seconds").isNull(), -F.col("time_seconds")],
    }
    return F.struct(*policies[config.deduplicate.survivor], F.col("record_id"))


def group_by_text(records: DataFrame, config: Configuration) -> DataFrame:
    """For each distinct text: `text_hash`, `records`, the `rank` of its representative, the smallest `carrier_id`."""
    return records.groupBy("text_hash").agg(
        F.count("*").alias("records"),
        F.min(survivor_rank(config)).alias("rank"),
        F.min(F.when(F.col("carrier"), F.col("record_id"))).alias("carrier_id"),
    )


def select_signatures(sketches: DataFrame, texts: DataFrame) -> DataFrame:
    """One carrier of each distinct text, under the representative's record_id."""
    copied = texts.where("records > 1").select(
        "text_hash", "carrier_id", F.col("rank.record_id").alias("representative")
    )
    if copied.count() <= BROADCAST_TEXTS:
        copied = F.broadcast(copied)  # the shingles, as large as the texts, stay where they are
    return (
        sketches.where("carrier")
        .join(copied, "text_hash", how="left")
        .where("carrier_id IS NULL OR carrier_id = record_id")
        .select(
            F.coalesce("representative", "record_id").alias("record_id"), "text_hash", "bands", "shingles"
        )
    )


def hot_texts_and_clusters(texts: DataFrame, clusters: DataFrame) -> tuple[HotKeys, HotKeys]:
    """The texts with very many copies, and the clusters with very many texts; both frames should be persisted."""
    sizes = clusters.groupBy("component").agg(F.count("*").alias("texts"))
    return hot_keys(texts.select("text_hash", "records")), hot_keys(sizes)


def with_survivor(texts: DataFrame, clusters: DataFrame, hot: HotKeys = NO_HOT_KEYS) -> DataFrame:
    """For each distinct text: `text_hash`, the record_ids of its `representative` and of its cluster's `survivor`.

    `clusters` has the columns `member` (a text_hash) and `component`; texts without near-duplicates are not in it.
    `hot`: components with so many members that their records are salted.
    """
    ranked = texts.select(F.col("text_hash").alias("member"), "rank")
    first = F.min("rank").alias("first")
    firsts = clusters.join(ranked, "member", how="inner").groupBy("component").agg(first)
    survivors = salted_join(
        clusters, firsts.select("component", "first.record_id"), "component", "inner", hot, "member"
    ).select(F.col("member").alias("text_hash"), F.col("record_id").alias("survivor"))
    representative = F.col("rank.record_id")
    return texts.join(survivors, "text_hash", how="left").select(
        "text_hash",
        representative.alias("representative"),
        F.coalesce("survivor", representative).alias("survivor"),
    )


def build_ledger(
    fields: DataFrame,
    records: DataFrame,
    survivors: DataFrame,
    config: Configuration,
    hot: HotKeys = NO_HOT_KEYS,
) -> DataFrame:
    """The rows of silver/ledger, `split` still null; `hot`: texts with so many copies that they are salted."""
    is_survivor = F.col("record_id") == F.col("survivor")
    if config.deduplicate.duplicates == "keep":
        status, reason = F.lit("kept"), F.lit(None)
    else:
        is_representative = F.col("record_id") == F.col("representative")
        status = (
            F.when(is_survivor, "kept").when(is_representative, "near_duplicate").otherwise("exact_duplicate")
        )
        reason = F.when(~is_survivor, F.col("survivor"))
    copies = records.select("record_id", "source_path", "text_hash")
    compared = salted_join(copies, survivors, "text_hash", "inner", hot, "record_id").select(
        "record_id",
        F.col("source_path").alias("source"),
        status.alias("status"),
        reason.alias("reason"),
        F.col("survivor").alias("cluster_id"),
    )
    filtered = fields.where("filtered_by IS NOT NULL").select(
        "record_id",
        F.col("source_path").alias("source"),
        F.lit("filtered").alias("status"),
        F.col("filtered_by").alias("reason"),
        F.lit(None).alias("cluster_id"),
    )
    return compared.unionByName(filtered).withColumn("split", F.lit(None))


def count_statuses(ledger: DataFrame) -> dict[str, int]:
    """Number of records by status, every status included."""
    found = {row["status"]: int(row["count"]) for row in ledger.groupBy("status").count().collect()}
    return {status: found.get(status, 0) for status in STATUSES}


def main(argv: Sequence[str] | None = None) -> int:
    return stage_main("deduplicate", __doc__, deduplicate, argv)


if __name__ == "__main__":
    sys.exit(run(main))
