"""Conversion of reading outcomes into the rows of the three bronze tables, with checks on the way."""

import errno
import os
import pickle
from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from common.errors import DataError
from etl.lake.tombstones import NO_TOMBSTONES, Tombstones
from etl.sources.accounting import BY_RULE, check_content, faults, sizes_of_pieces
from etl.sources.content.streams import CANNOT_OPEN, CANNOT_READ_ON
from etl.sources.files.formats import formats
from etl.sources.files.pieces import Piece, list_pieces
from etl.sources.reading import (
    FILE,
    QUARANTINE,
    RECORD,
    TASK_BITS,
    ReadTasks,
    column_name,
    outcome_schema,
)
from schemas import tables
from schemas.config import Configuration

SAME_RECORD = ("row", "record_id", "source_index", "source_path", "source_position", "source_bytes")
"""Columns that identify a record across two readings of its task."""


MAX_REPEATED = 1_000_000
"""Limit on records that repeat an id: more mean that the column is no id, and their numbers go to every executor."""


def read_outcomes(
    spark: SparkSession,
    config: Configuration,
    tasks: Sequence[Sequence[Piece]],
    raw_of: frozenset[int] | None = None,
    tombstones: Tombstones = NO_TOMBSTONES,
) -> DataFrame:
    """Read all pieces and return their outcomes (columns of `outcome_schema`), a partition for each task.

    With `raw_of`, return only the records with these row numbers and their raw bytes, from the tasks that hold them.
    """
    wanted = range(len(tasks)) if raw_of is None else sorted({row >> TASK_BITS for row in raw_of})
    rows = [(number, bytearray(pickle.dumps(tasks[number]))) for number in wanted]
    numbered = spark.createDataFrame(
        spark.sparkContext.parallelize(rows, len(rows)), "task bigint, pieces binary"
    )
    return numbered.mapInArrow(
        ReadTasks(config, raw_of, tombstones), tables.spark_schema(outcome_schema(config))
    )


def file_rows(outcomes: DataFrame) -> DataFrame:
    """Return a row for each file, from the outcomes of its pieces."""
    # Each piece of an unreadable file says so, but it is one row of the quarantine.
    surplus = F.greatest(F.sum("from_start") - 1, F.lit(0))
    return (
        outcomes.where(F.col("kind") == FILE)
        .groupBy("source_index", "source_path")
        .agg(
            F.max("bytes").alias("bytes"),
            F.max("bytes_read").alias("bytes_read"),
            F.max("sha256").alias("sha256"),
            F.max("modified").alias("modified"),
            (F.sum("records") - surplus).alias("records"),
            (F.sum("quarantined") - surplus).alias("quarantined"),
            (F.sum("damaged") - surplus).alias("damaged"),
            F.sum("from_start").alias("from_start"),
            F.min("detail").alias("detail"),
            *(column.alias(name) for name, column in sizes_of_pieces(surplus).items()),
        )
        .withColumn("skipped", F.expr(BY_RULE))
        .drop("pieces_skipped")
        # The whole file was unreadable where its only rows are those that say so.
        .withColumn(
            "status",
            F.when((F.col("damaged") > 0) & (F.col("damaged") == F.col("records")), "unreadable").otherwise(
                "read"
            ),
        )
    )


def check_files(
    files: DataFrame, config: Configuration, readable: frozenset[int] = frozenset()
) -> dict[str, int]:
    """Return the numbers of files and records read. Raises DataError where ingestion must not continue, and CheckError
    where the content of a file does not add up.

    `readable`: sources with a file that an earlier run could read; all new files of these may be unreadable.
    """
    changed = F.when(F.col("bytes") != F.col("bytes_read"), F.struct("source_path", "bytes", "bytes_read"))
    totals = (
        files.groupBy("source_index")
        .agg(
            F.count("*").alias("files"),
            F.sum("records").alias("records"),
            F.count_if(F.col("status") == "read").alias("readable"),
            F.min(changed).alias("changed"),
            F.min(F.when(F.col("status") != "read", F.struct("source_path", "detail"))).alias("unreadable"),
            *(column.alias(name) for name, column in faults().items()),
        )
        .collect()
    )
    for row in sorted(totals, key=itemgetter("source_index")):
        pattern = config.source[row["source_index"]].path
        if row["changed"] is not None:
            path, before, after = row["changed"]
            raise DataError(
                f"{path} of the source {pattern!r} changed while it was read ({before:,} bytes, then {after:,}): "
                "run again once nothing writes to it"
            )
        check_content(row.asDict(), pattern)
        if not row["readable"] and row["source_index"] not in readable:
            raise DataError(
                f"none of the {row['files']:,} files of the source {pattern!r} could be read, as "
                f"{row['unreadable']['source_path']}: {row['unreadable']['detail']}; "
                "check that they match `format`, and their permissions"
            )
    return {"files": sum(row["files"] for row in totals), "records_in": sum(row["records"] for row in totals)}


def failed_to_read(detail: Column) -> Column:
    """Return True where a system error made a file unreadable, rather than its content or permissions."""
    failed = F.lit(False)
    for words in (CANNOT_OPEN, CANNOT_READ_ON):
        failed = failed | detail.startswith(words)
    return failed & ~detail.contains(os.strerror(errno.EACCES))


def repeated_records(outcomes: DataFrame, known: DataFrame | None = None) -> DataFrame:
    """Return the records whose id an earlier one has (by source, path and position), with the place of the first.

    `known`: the records of earlier runs, all of which come before. Only ids and positions are shuffled.
    """
    place = ("source_index", "source_path", "source_position")
    ids = outcomes.where(F.col("kind") == RECORD).select(*SAME_RECORD)
    again = None
    if known is not None:
        first = known.select(
            "record_id",
            F.col("source_path").alias("first_path"),
            F.col("source_position").alias("first_position"),
        )
        again = first.join(F.broadcast(ids), "record_id", how="inner").select(
            *SAME_RECORD, "first_path", "first_position"
        )
        ids = ids.join(F.broadcast(again.select("row")), "row", how="left_anti")
    firsts = (
        ids.groupBy("record_id")
        .agg(F.min(F.struct(*place, "row")).alias("first"), F.count("*").alias("times"))
        .where(F.col("times") > 1)
    )
    found = (
        ids.join(firsts, "record_id", how="inner")
        .where(F.col("row") != F.col("first.row"))
        .select(
            *SAME_RECORD,
            F.col("first.source_path").alias("first_path"),
            F.col("first.source_position").alias("first_position"),
        )
    )
    return found if again is None else found.unionByName(again)


def with_raw(
    repeated: DataFrame,
    spark: SparkSession,
    config: Configuration,
    tasks: Sequence[Sequence[Piece]],
    tombstones: Tombstones = NO_TOMBSTONES,
) -> DataFrame:
    """Add the raw bytes of the records, from a second reading of the tasks that hold them.

    They are usually few, and keeping the bytes of all records for them would double the size of the columns.
    """
    rows = frozenset(repeated.select("row").toArrow()["row"].to_pylist())
    raws = read_outcomes(spark, config, tasks, rows, tombstones).select(*SAME_RECORD, "raw")
    return raws.join(F.broadcast(repeated), list(SAME_RECORD), how="inner")


def check_raw(
    repeated: DataFrame, raws: DataFrame, config: Configuration, tasks: Sequence[Sequence[Piece]]
) -> None:
    """Raise DataError where the second reading missed records, or their files have changed since the first.

    A file has changed when its size or its time of modification has.
    """
    lost = (
        repeated.join(raws.select("row"), "row", how="left_anti")
        .select("source_path", "source_position")
        .first()
    )
    if lost is not None:
        raise DataError(
            f"{lost['source_path']} no longer holds the record that was read at its position "
            f"{lost['source_position']:,}, or can no longer be read: run again once nothing writes to it"
        )
    listed = {(piece.file.source_index, piece.file.path): piece.file for piece in list_pieces(config)}
    for file in (piece.file for pieces in tasks for piece in pieces):
        now = listed.get((file.source_index, file.path))
        if now is None or (now.bytes, now.modified) != (file.bytes, file.modified):
            raise DataError(f"{file.path} changed while it was read: run again once nothing writes to it")


def check_repeated(repeated: DataFrame, config: Configuration) -> int:
    """Return the number of records. Raises DataError when so many ids repeat that the column cannot be an id."""
    count = repeated.count()
    if count > MAX_REPEATED:
        raise DataError(
            f"{count:,} records repeat the id of another one: the column {config.columns.id!r} is no id; "
            "set columns.id to another column, or leave it out"
        )
    return count


def accepted(outcomes: DataFrame, repeated: DataFrame | None, config: Configuration) -> DataFrame:
    """Return the rows of `bronze/records`."""
    columns = [F.col(column_name(place)).alias(column) for place, column in enumerate(config.table_columns())]
    records = outcomes.where(F.col("kind") == RECORD)
    if repeated is not None:
        records = records.join(F.broadcast(repeated.select("row")), "row", how="left_anti")
    own = ("record_id", "source_index", "source_path", "source_position", "source_bytes", "time_seconds")
    return records.select(*own, *columns, *(["image_effects"] if config.image_features() else []))


def quarantined(outcomes: DataFrame, repeated: DataFrame | None, in_pieces: bool) -> DataFrame:
    """Return the rows of `bronze/quarantine`; `in_pieces`: several pieces report the same unreadable file."""
    columns = ("source_index", "source_path", "source_position", "reason", "detail", "raw")
    all_rejected = outcomes.where(F.col("kind") == QUARANTINE)
    rejected = all_rejected.select(*columns)
    if in_pieces:
        of_file = all_rejected.where(F.col("from_start") > 0).groupBy(*columns[:3])
        one = of_file.agg(F.min(F.struct(*columns[3:])).alias("first")).select(*columns[:3], "first.*")
        rejected = all_rejected.where(F.col("from_start") == 0).select(*columns).unionByName(one)
    if repeated is None:
        return rejected
    repeats = repeated.withColumn("reason", F.lit("repeated_id")).withColumn(
        "detail",
        F.format_string(
            "the record at position %d of %s has the same id and stays", "first_position", "first_path"
        ),
    )
    return rejected.unionByName(repeats.select(*columns))


def source_rows(
    files: DataFrame, repeated: DataFrame | None, config: Configuration, ingested: datetime
) -> DataFrame:
    """Return the rows of `bronze/sources`."""
    files = files.withColumn("ingested", F.lit(ingested))
    if repeated is None:
        return files
    by_row = [index for index, source in enumerate(config.source) if formats()[source.format].random_access]
    size = F.when(F.col("source_index").isin(by_row), F.lit(1)).otherwise(F.col("source_bytes"))
    of_file = repeated.groupBy("source_index", "source_path").agg(
        F.count("*").alias("repeated"), F.sum(size).alias("repeated_size")
    )
    moved, moved_size = (F.coalesce(name, F.lit(0)) for name in ("repeated", "repeated_size"))
    return files.join(of_file, ["source_index", "source_path"], how="left").withColumns(
        {
            "quarantined": F.col("quarantined") + moved,
            "records_size": F.col("records_size") - moved_size,
            "quarantined_size": F.col("quarantined_size") + moved_size,
            "quarantined_lines": F.col("quarantined_lines") + moved,
        }
    )
