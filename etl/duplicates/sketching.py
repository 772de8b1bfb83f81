"""Sketches of records: the narrow pass from silver/fields into hashes, and the signatures of distinct contents."""

from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from etl.duplicates.contents import SKETCH, content_of
from etl.spark.arrow_batches import parts_of
from schemas.config import Configuration
from schemas.tables import spark_schema

BROADCAST_TEXTS = 1_000_000  # with copies; some 100 MB in every executor


REMEMBERED = 1 << 17  # hashes of contents that a task has sketched; some 15 MB


_SKETCHED_RECORDS = pa.schema(
    [
        ("record_id", pa.string()),
        ("source_index", pa.int32()),
        ("source_path", pa.string()),
        ("source_position", pa.int64()),
        ("time_seconds", pa.float64()),
        ("label", pa.string()),  # null where none is configured
        *(SKETCH.field(name) for name in ("length", "content_hash", "sketch_owner")),
    ]
)


_SKETCHES = pa.schema([*_SKETCHED_RECORDS, *list(SKETCH)[3:]])


_READ = 5
"""Number of columns of silver/fields that pass through, beside the label."""


def with_sketches(fields: DataFrame, config: Configuration) -> DataFrame:
    """Return a row of _SKETCHES for each record that is not filtered."""
    content = content_of(config)
    compared = [f"compared_{place}" for place in range(len(content.columns))]

    def sketched(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        seen: set[bytes] = set()
        for batch in batches:
            for part in parts_of(batch, compared, content.part_bytes):
                if len(seen) > REMEMBERED:
                    seen.clear()
                own = [part[name] for name in _SKETCHES.names[: _READ + 1]]
                found = content.sketch(part.select(compared), seen)
                yield pa.RecordBatch.from_arrays([*own, *found], schema=_SKETCHES)

    label = F.lit(None).cast("string") if config.columns.label is None else F.col(config.columns.label)
    columns = [F.col(name).alias(compared[place]) for place, name in enumerate(content.columns)]
    unfiltered = fields.where("filtered_by IS NULL").select(
        *_SKETCHES.names[:_READ], label.alias("label"), *columns
    )
    return unfiltered.mapInArrow(sketched, spark_schema(_SKETCHES))


def survivor_rank(config: Configuration) -> Column:
    """Return a struct whose smallest record survives; its last field is the record_id, so that no two are equal."""
    policies: Mapping[str, list[Column]] = {
        "longest": [-F.col("length")],
        "first": [F.col("source_index"), F.col("source_path"), F.col("source_position")],
        "newest": [F.col("time_seconds").isNull(), -F.col("time_seconds")],
    }
    return F.struct(*policies[config.deduplicate.survivor], F.col("record_id"))


def group_by_text(records: DataFrame, config: Configuration) -> DataFrame:
    """Return `content_hash`, `records`, its representative's `rank`, the smallest `owner_id` of distinct contents."""
    return records.groupBy("content_hash").agg(
        F.count("*").alias("records"),
        F.min(survivor_rank(config)).alias("rank"),
        F.min(F.when(F.col("sketch_owner"), F.col("record_id"))).alias("owner_id"),
    )


def select_signatures(sketches: DataFrame, texts: DataFrame) -> DataFrame:
    """Return the sketch of one owner of each distinct text, under the representative's record_id."""
    copied = texts.where("records > 1").select(
        "content_hash", "owner_id", F.col("rank.record_id").alias("representative")
    )
    if copied.count() <= BROADCAST_TEXTS:
        copied = F.broadcast(copied)  # the shingles, as large as the texts, stay where they are
    return (
        sketches.where("sketch_owner")
        .join(copied, "content_hash", how="left")
        .where("owner_id IS NULL OR owner_id = record_id")
        .select(
            F.coalesce("representative", "record_id").alias("record_id"),
            "content_hash",
            "signs",
            "bands",
            "sketch",
        )
    )
