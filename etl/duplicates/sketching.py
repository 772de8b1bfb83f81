"""Sketches of texts: the narrow pass from silver/fields into hashes, and the signatures of distinct texts."""

from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from etl.duplicates.equality import Equality
from etl.duplicates.hash_lists import packed
from etl.duplicates.minhash import Banding, sketch
from etl.spark.arrow_batches import parts_of
from schemas.config import Configuration
from schemas.tables import spark_schema

BATCH_BYTES = (
    1 << 20
)  # size of the text sketched at a time: the kernel's arrays stay in the processor's caches


BROADCAST_TEXTS = 1_000_000  # with copies; some 100 MB in every executor


REMEMBERED = 1 << 17  # hashes of texts that a task has sketched; some 15 MB


_SKETCHED_RECORDS = pa.schema(
    [
        ("record_id", pa.string()),
        ("source_index", pa.int32()),
        ("source_path", pa.string()),
        ("source_position", pa.int64()),
        ("time_seconds", pa.float64()),
        ("label", pa.string()),  # null where none is configured
        ("length", pa.int32()),  # characters of the cleaned text
        ("text_hash", pa.binary()),
        (
            "sketch_owner",
            pa.bool_(),
        ),  # of bands and shingles; false where the task has sketched that text before
    ]
)


_SKETCHES = pa.schema(
    [
        *_SKETCHED_RECORDS,
        ("signs", pa.int64()),
        ("bands", pa.list_(pa.int64())),
        ("shingles", pa.binary()),  # as in silver/signatures
    ]
)


_READ = 5
"""Number of columns of silver/fields that pass through, beside the label."""


def with_sketches(fields: DataFrame, config: Configuration) -> DataFrame:
    """Return a row of _SKETCHES for each record that is not filtered."""
    settings = config.deduplicate
    banding, equality = Banding.for_similarity(settings.similarity), Equality.of(settings)

    def sketched(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        seen: set[bytes] = set()
        for batch in batches:
            for part in parts_of(batch, ["text"], BATCH_BYTES):
                if len(seen) > REMEMBERED:
                    seen.clear()
                yield _sketch_batch(part, settings.shingle, banding, seen, equality)

    label = F.lit(None).cast("string") if config.columns.label is None else F.col(config.columns.label)
    text = F.col(config.deduplicated_column()).alias("text")
    columns = [*_SKETCHES.names[:_READ], label.alias("label"), text]
    unfiltered = fields.where("filtered_by IS NULL").select(*columns)
    return unfiltered.mapInArrow(sketched, spark_schema(_SKETCHES))


def _sketch_batch(
    batch: pa.RecordBatch, shingle: int, banding: Banding, seen: set[bytes], equality: Equality
) -> pa.RecordBatch:
    sketches = sketch(batch["text"], shingle, banding, seen, equality)
    filled = sketches.offsets[1:] > sketches.offsets[:-1]
    band_offsets = pa.array([0, *(filled.cumsum() * banding.bands).tolist()], pa.int32())
    columns = {name: batch[name] for name in _SKETCHES.names[: _READ + 1]} | {
        "length": pc.fill_null(pc.utf8_length(batch["text"]), 0).cast(pa.int32()),
        "text_hash": pa.array(sketches.text_hash, pa.binary()),
        "sketch_owner": pa.array(sketches.sketch_owner),
        "signs": pa.array(sketches.signs),
        "bands": pa.ListArray.from_arrays(band_offsets, sketches.bands.ravel()),
        "shingles": packed(sketches.values, sketches.offsets),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in _SKETCHES.names], schema=_SKETCHES)


def survivor_rank(config: Configuration) -> Column:
    """Return a struct whose smallest record survives; its last field is the record_id, so that no two are equal."""
    policies: Mapping[str, list[Column]] = {
        "longest": [-F.col("length")],
        "first": [F.col("source_index"), F.col("source_path"), F.col("source_position")],
        "newest": [F.col("time_seconds").isNull(), -F.col("time_seconds")],
    }
    return F.struct(*policies[config.deduplicate.survivor], F.col("record_id"))


def group_by_text(records: DataFrame, config: Configuration) -> DataFrame:
    """Return, for each distinct text, `text_hash`, `records`, its representative's `rank`, the smallest `owner_id`."""
    return records.groupBy("text_hash").agg(
        F.count("*").alias("records"),
        F.min(survivor_rank(config)).alias("rank"),
        F.min(F.when(F.col("sketch_owner"), F.col("record_id"))).alias("owner_id"),
    )


def select_signatures(sketches: DataFrame, texts: DataFrame) -> DataFrame:
    """Return the sketch of one owner of each distinct text, under the representative's record_id."""
    copied = texts.where("records > 1").select(
        "text_hash", "owner_id", F.col("rank.record_id").alias("representative")
    )
    if copied.count() <= BROADCAST_TEXTS:
        copied = F.broadcast(copied)  # the shingles, as large as the texts, stay where they are
    return (
        sketches.where("sketch_owner")
        .join(copied, "text_hash", how="left")
        .where("owner_id IS NULL OR owner_id = record_id")
        .select(
            F.coalesce("representative", "record_id").alias("record_id"),
            "text_hash",
            "signs",
            "bands",
            "shingles",
        )
    )
