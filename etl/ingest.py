"""Reads the sources into bronze: each record either into `records` or into `quarantine`.

One Spark job reads the sources; its outcomes are kept on local disk until the three tables are written. Only the parts
that hold records with repeated ids are read once more, for the raw bytes of these.
`bronze/records`, which the next stage reads, is committed last; a run that broke off before is simply repeated.
"""

import errno
import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from common.command import run
from common.errors import CheckError, DataError
from common.progress import say
from etl.gates.limits import check_quarantine
from etl.lake.log import Commit, identity, stages_since
from etl.lake.tables import read_table, restore_to, write_table
from etl.lake.tombstones import FORGOTTEN, NO_TOMBSTONES, Tombstones
from etl.runs.completion import bronze_tables, ingest_basis
from etl.runs.increments import SourceChanges, differs_only_in, may_go_on, source_changes
from etl.runs.stage import stage_main
from etl.sources.files.listing import SourceFile
from etl.sources.files.pieces import Piece, group, list_pieces
from etl.sources.files.streams import CANNOT_OPEN, CANNOT_READ_ON
from etl.sources.reading import (
    FILE,
    QUARANTINE,
    RECORD,
    TASK_BITS,
    ReadTasks,
    column_name,
    outcome_schema,
)
from etl.spark.persist import kept
from etl.spark.session import spark_progress
from schemas import tables
from schemas.config import Configuration
from schemas.tables import Layout

SAME_RECORD = ("row", "record_id", "source_index", "source_path", "source_position", "source_bytes")
"""What a record has to have in common with one of another reading of its task to be the same."""
MAX_REPEATED = 1_000_000
"""More records that repeat an id say that the column is no id; their numbers go to every executor."""


def ingest(spark: SparkSession, config: Configuration) -> Mapping[str, int]:
    """Writes the bronze tables and returns the numbers of files, records_in, quarantined and records.

    What `ringlake-etl forget` erased is quarantined without its content; `forgotten` is the number of these, if any.

    Raises DataError for a pattern without files, a source none of whose files can be read, a file that changed
    meanwhile, and an id column that repeats too often to be one.
    """
    layout = tables.Layout.of(config)
    basis = ingest_basis(
        config
    )  # before the files are read: what is written meanwhile is new to the next run
    began = datetime.now(UTC)
    pieces = list_pieces(config)
    earlier = earlier_run(spark, config, basis, pieces)
    if earlier is not None:
        note_touched(spark, layout, earlier.changes.touched)
        pieces = earlier.changes.new
        if not pieces:  # files that were only touched, or whose changes are not to count
            return note_unchanged(spark, config, basis, earlier)
        say(f"  {len({piece.file.location for piece in pieces}):,} new files")
    tasks = group(pieces, spark.sparkContext.defaultParallelism)
    tombstones = Tombstones.of(config)
    append = earlier is not None
    with ExitStack() as stack:
        outcomes = stack.enter_context(kept(read_outcomes(spark, config, tasks, tombstones=tombstones)))
        with spark_progress(spark, "reading the sources"):
            files = stack.enter_context(kept(file_rows(outcomes)))
            readable = earlier.changes.known_sources if earlier is not None else frozenset()
            counts = check_files(files, config, readable)
        repeated: DataFrame | None = None
        if config.columns.id is not None:  # an id that is derived from the position never repeats
            with spark_progress(spark, "looking for repeated ids"):
                known = read_table(spark, layout.records) if earlier is not None else None
                found = stack.enter_context(kept(repeated_records(outcomes, known)))
                if check_repeated(found, config):
                    repeated = stack.enter_context(kept(with_raw(found, spark, config, tasks, tombstones)))
                    check_raw(found, repeated, config, tasks)
        with spark_progress(spark, "writing bronze"):
            # With the quarantine of this run and the records of the last one, the counts of the next stages would not
            # add up: so records come last, and a run that broke off is seen at once.
            written = {}
            failed, in_pieces = files.agg(
                F.count_if(failed_to_read(F.col("detail"))), F.count_if(F.col("from_start") > 1)
            ).collect()[0]
            for name, frame, schema in (
                ("quarantine", quarantined(outcomes, repeated, in_pieces > 0), tables.quarantine_schema()),
                ("sources", sources(files, repeated, began), tables.sources_schema()),
            ):
                uri = layout.at("bronze", name)
                version = write_table(frame, uri, schema, config, "ingest", counts, append)
                written[name] = identity(uri, config.storage, version)
            if earlier is not None:
                for name in ("files", "records_in"):
                    counts[name] += earlier.counts[name]
            quarantine = read_table(spark, layout.quarantine)
            counts["quarantined"] = quarantine.count()
            if tombstones:
                counts["forgotten"] = quarantine.where(F.col("reason") == FORGOTTEN).count()
            counts["records"] = counts["records_in"] - counts["quarantined"]
            # Of an increment nothing failed before: then everything would have been read again.
            facts = {**counts, "made_from": basis, "tables": written, "counts": counts, "failed": failed}
            rows, schema = accepted(outcomes, repeated, config), tables.records_schema(config)
            write_table(rows, layout.records, schema, config, "ingest", facts, append)
        counts["records"] = read_table(spark, layout.records).count()
    check_counts(counts)
    return counts


@dataclass(frozen=True)
class EarlierRun:
    """What an increment goes on from."""

    changes: SourceChanges
    counts: Mapping[str, int]
    facts: Mapping[str, Any]


def earlier_run(
    spark: SparkSession, config: Configuration, basis: Mapping[str, object], pieces: Sequence[Piece]
) -> EarlierRun | None:
    """The run before, where only new files separate it from this one; None where everything is to be read.

    Raises DataError where files have changed or vanished and the configuration says to stop then.
    """
    layout = Layout.of(config)
    records = Commit.of(layout.records, config.storage)
    if not config.increments.go_on or records is None or records.facts.get("stage") != "ingest":
        return None
    if not differs_only_in(records.facts.get("made_from"), basis, "sources") or basis["sources"] is None:
        return None
    noted = records.facts.get("tables")
    if not isinstance(noted, dict) or records.facts.get("failed"):
        return None
    broke_off = noted != bronze_tables(config)
    if records.facts["made_from"]["sources"] == basis["sources"] and not broke_off:
        return None  # the same sources: this run was asked for, to read all of them again
    # An increment that broke off may have added to them.
    if broke_off and not restore_tables(spark, config, noted):
        return None
    changes = source_changes(config, pieces)
    if not may_go_on(changes, config) or changes.moves_twins:
        return None
    return EarlierRun(changes, records.facts["counts"], records.facts)


def restore_tables(spark: SparkSession, config: Configuration, noted: Mapping[str, str]) -> bool:
    """Brings sources and quarantine back to the versions that belong to bronze/records; False where that cannot be."""
    layout = Layout.of(config)
    for name in ("sources", "quarantine"):
        uri = layout.at("bronze", name)
        table, _, version = noted.get(name, "").rpartition("@")
        commit = Commit.of(uri, config.storage)
        if not table or commit is None or commit.table_id != table:
            return False
        if commit.version != int(version):
            if "forget" in stages_since(uri, int(version), config.storage):
                return False  # what was erased must not come back
            restore_to(spark, uri, noted[name], config.storage)
    return True


def note_touched(spark: SparkSession, layout: Layout, files: Sequence[SourceFile]) -> None:
    """Notes their new times of modification, so that they need not be hashed again by every run."""
    if not files:
        return
    rows = [(file.source_index, file.path, file.modified) for file in files]
    now = spark.createDataFrame(rows, "source_index int, source_path string, modified timestamp")
    same = "t.source_index = s.source_index AND t.source_path = s.source_path"
    table = DeltaTable.forPath(spark, layout.sources).alias("t")
    table.merge(F.broadcast(now).alias("s"), same).whenMatchedUpdate(
        set={"modified": F.col("s.modified")}
    ).execute()


def note_unchanged(
    spark: SparkSession, config: Configuration, basis: Mapping[str, object], earlier: EarlierRun
) -> Mapping[str, int]:
    """Notes that the tables are complete with the sources as they are now."""
    layout = Layout.of(config)
    empty = read_table(spark, layout.records).limit(0)
    facts = {**earlier.facts, "made_from": dict(basis), "tables": bronze_tables(config)}
    write_table(empty, layout.records, tables.records_schema(config), config, "ingest", facts, append=True)
    return earlier.counts


def read_outcomes(
    spark: SparkSession,
    config: Configuration,
    tasks: Sequence[Sequence[Piece]],
    raw_of: frozenset[int] | None = None,
    tombstones: Tombstones = NO_TOMBSTONES,
) -> DataFrame:
    """What the reading of all pieces gives (columns of `outcome_schema`), a partition for each task.

    With `raw_of` only the records with these row numbers and their raw bytes, from the tasks that hold them.
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
    """A row for each file, from what its pieces say about it."""
    # That nothing of it can be read each of them says, and it is one row of the quarantine.
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
        )
        # Nothing could be read where the only rows are those that say so.
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
    """The numbers of files and records read. Raises DataError for what must not go on.

    `readable`: sources of which an earlier run could read a file; of these every new one may be unreadable.
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
        )
        .orderBy("source_index")
        .collect()
    )
    for row in totals:
        pattern = config.source[row["source_index"]].path
        if row["changed"] is not None:
            path, before, after = row["changed"]
            raise DataError(
                f"{path} of the source {pattern!r} changed while it was read ({before:,} bytes, then {after:,}): "
                "run again once nobody writes to it"
            )
        if not row["readable"] and row["source_index"] not in readable:
            raise DataError(
                f"none of the {row['files']:,} files of the source {pattern!r} could be read, as "
                f"{row['unreadable']['source_path']}: {row['unreadable']['detail']}; "
                "check that they are what `format` says, and their permissions"
            )
    return {"files": sum(row["files"] for row in totals), "records_in": sum(row["records"] for row in totals)}


def failed_to_read(detail: Column) -> Column:
    """Whether the system, and not what it holds, kept a file from being read; its permissions are another matter."""
    failed = F.lit(False)
    for words in (CANNOT_OPEN, CANNOT_READ_ON):
        failed = failed | detail.startswith(words)
    return failed & ~detail.contains(os.strerror(errno.EACCES))


def repeated_records(outcomes: DataFrame, known: DataFrame | None = None) -> DataFrame:
    """The records whose id an earlier one has (by source, path and position), with the place of that first one.

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
    """Adds the raw bytes of the records, from a second reading of the tasks that hold them.

    They are few as a rule, and to keep the bytes of all records for them would be as much again as their columns.
    """
    rows = frozenset(repeated.select("row").toArrow()["row"].to_pylist())
    raws = read_outcomes(spark, config, tasks, rows, tombstones).select(*SAME_RECORD, "raw")
    return raws.join(F.broadcast(repeated), list(SAME_RECORD), how="inner")


def check_raw(
    repeated: DataFrame, raws: DataFrame, config: Configuration, tasks: Sequence[Sequence[Piece]]
) -> None:
    """Raises DataError where the second reading did not find the records, or their files have changed since the first.

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
            f"{lost['source_position']:,}, or can no longer be read: run again once nobody writes to it"
        )
    listed = {(piece.file.source_index, piece.file.path): piece.file for piece in list_pieces(config)}
    for file in (piece.file for pieces in tasks for piece in pieces):
        now = listed.get((file.source_index, file.path))
        if now is None or (now.bytes, now.modified) != (file.bytes, file.modified):
            raise DataError(f"{file.path} changed while it was read: run again once nobody writes to it")


def check_repeated(repeated: DataFrame, config: Configuration) -> int:
    """The number of records. Raises DataError when so many ids repeat that the column cannot be meant as one."""
    count = repeated.count()
    if count > MAX_REPEATED:
        raise DataError(
            f"{count:,} records repeat the id of another one: the column {config.columns.id!r} is no id; "
            "configure another one as columns.id, or none"
        )
    return count


def accepted(outcomes: DataFrame, repeated: DataFrame | None, config: Configuration) -> DataFrame:
    """The rows of `bronze/records`."""
    columns = [F.col(column_name(place)).alias(column) for place, column in enumerate(config.table_columns())]
    records = outcomes.where(F.col("kind") == RECORD)
    if repeated is not None:
        records = records.join(F.broadcast(repeated.select("row")), "row", how="left_anti")
    own = ("record_id", "source_index", "source_path", "source_position", "source_bytes", "time_seconds")
    return records.select(*own, *columns)


def quarantined(outcomes: DataFrame, repeated: DataFrame | None, in_pieces: bool) -> DataFrame:
    """The rows of `bronze/quarantine`; `in_pieces`: several pieces of a file say that nothing of it can be read."""
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


def sources(files: DataFrame, repeated: DataFrame | None, ingested: datetime) -> DataFrame:
    """The rows of `bronze/sources`."""
    files = files.withColumn("ingested", F.lit(ingested))
    if repeated is None:
        return files
    of_file = repeated.groupBy("source_index", "source_path").agg(F.count("*").alias("repeated"))
    return files.join(of_file, ["source_index", "source_path"], how="left").withColumn(
        "quarantined", F.col("quarantined") + F.coalesce("repeated", F.lit(0))
    )


def check_counts(counts: Mapping[str, int]) -> None:
    """Raises CheckError unless every record that was read stands in exactly one of the two tables."""
    if counts["records_in"] != counts["records"] + counts["quarantined"]:
        raise CheckError(
            f"{counts['records_in']:,} records were read, but {counts['records']:,} stand in bronze/records and "
            f"{counts['quarantined']:,} in bronze/quarantine: please report this defect"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m etl.ingest --config FILE`; returns the exit status. Raises QualityGateError, as the pipeline does."""
    return stage_main("ingest", __doc__, ingest, argv, check=check_quarantine)


if __name__ == "__main__":
    sys.exit(run(main))
