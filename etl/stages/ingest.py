"""ingest: reads the sources into bronze, each record either into `records` or into `quarantine`.

One Spark job reads the sources; its outcomes are kept on local disk until the three tables are written. Only the
parts with repeated ids are read once more, for the raw bytes of those records. `bronze/records`, which the next stage
reads, is committed last; an interrupted run is simply repeated.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

from delta.tables import DeltaTable
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from common.errors import CheckError
from common.progress import log
from common.wording import counted
from etl.lake.facts import CommitFacts, Fingerprint, RecordsFacts
from etl.lake.tombstones import FORGOTTEN, Tombstones
from etl.runs.completion import Stage
from etl.runs.run import Run, Tables
from etl.sources.accounting import shares
from etl.sources.content.listing import SourceFile
from etl.sources.earlier_run import earlier_run
from etl.sources.files.pieces import group, list_pieces
from etl.sources.outcomes import (
    accepted,
    check_files,
    check_raw,
    check_repeated,
    failed_to_read,
    file_rows,
    quarantined,
    read_outcomes,
    repeated_records,
    source_rows,
    with_raw,
)
from etl.sources.up_to_date import bronze_tables, ingest_fingerprint
from etl.spark.persist import persisted
from etl.spark.session import spark_progress
from schemas import tables


def ingest(run: Run) -> Mapping[str, int]:
    """Write the bronze tables and return the numbers of files, records_in, quarantined and record.

    Where any are quarantined, also lines, bytes, quarantined_lines and quarantined_bytes. Records that `ringlake-etl
    forget` erased are quarantined without their content; `forgotten` is their number, if any. Raises DataError for a
    pattern without files, a source without readable files, a file that changed meanwhile, and an id column that
    repeats too often to be one.
    """
    spark, config = run.spark, run.config
    # Before the files are read: anything written meanwhile is new to the next run.
    now = ingest_fingerprint(config)
    began = datetime.now(UTC)
    pieces = list_pieces(config)
    earlier = earlier_run(run, now, pieces)
    if earlier is not None:
        note_touched(run, earlier.changes.touched)
        pieces = earlier.changes.new
        if not pieces:  # files that were only touched, or whose changes are not to count
            return note_unchanged(run, now, earlier.facts)
        log(f"  {counted(len({piece.file.location for piece in pieces}), 'new file')}")
    tasks = group(pieces, spark.sparkContext.defaultParallelism)
    tombstones = Tombstones.of(config)
    append = earlier is not None
    with ExitStack() as stack:
        outcomes = stack.enter_context(persisted(read_outcomes(spark, config, tasks, tombstones=tombstones)))
        with spark_progress(spark, "reading the sources"):
            files = stack.enter_context(persisted(file_rows(outcomes)))
            readable = earlier.changes.known_sources if earlier is not None else frozenset()
            counts = check_files(files, config, readable)
        repeated: DataFrame | None = None
        if config.columns.id is not None:  # an id that is derived from the position never repeats
            with spark_progress(spark, "looking for repeated ids"):
                known = run.read("records") if earlier is not None else None
                found = stack.enter_context(persisted(repeated_records(outcomes, known)))
                if check_repeated(found, config):
                    repeated = stack.enter_context(
                        persisted(with_raw(found, spark, config, tasks, tombstones))
                    )
                    check_raw(found, repeated, config, tasks)
        with spark_progress(spark, "writing bronze"):
            # With the quarantine of this run and the records of the last one, the counts of the next stages would not
            # add up: so records come last, and an interrupted run is noticed at once.
            written = {}
            failed, in_pieces = files.agg(
                F.count_if(failed_to_read(F.col("detail"))), F.count_if(F.col("from_start") > 1)
            ).collect()[0]
            for name, frame, schema in (
                ("quarantine", quarantined(outcomes, repeated, in_pieces > 0), tables.quarantine_schema()),
                ("sources", source_rows(files, repeated, config, began), tables.sources_schema()),
            ):
                facts = CommitFacts.by("ingest", config, now)
                written[name] = run.write(frame, name, schema, facts, append).identity
            if earlier is not None:
                for name in ("files", "records_in"):
                    counts[name] += earlier.facts.counts[name]
            counts["quarantined"] = run.row_count("quarantine")
            if counts["quarantined"]:
                sums = [column.alias(name) for name, column in shares(config).items()]
                counts |= run.read("sources").agg(*sums).collect()[0].asDict()
            if tombstones:
                counts["forgotten"] = run.read("quarantine").where(F.col("reason") == FORGOTTEN).count()
            counts["records"] = counts["records_in"] - counts["quarantined"]
            # Nothing failed before an increment: otherwise everything would have been read again.
            noted = {"tables": written, "counts": counts, "failed": failed}
            facts = RecordsFacts.by("ingest", config, now, **noted)
            rows, schema = accepted(outcomes, repeated, config), tables.records_schema(config)
            run.write(rows, "records", schema, facts, append)
        counts["records"] = run.row_count("records")
    check_counts(counts)
    return counts


def note_touched(run: Run, files: Sequence[SourceFile]) -> None:
    """Record their new times of modification, so that not every run hashes them again."""
    if not files:
        return
    rows = [(file.source_index, file.path, file.modified) for file in files]
    now = run.spark.createDataFrame(rows, "source_index int, source_path string, modified timestamp")
    same = "t.source_index = s.source_index AND t.source_path = s.source_path"
    table = DeltaTable.forPath(run.spark, run.uri("sources")).alias("t")
    table.merge(F.broadcast(now).alias("s"), same).whenMatchedUpdate(
        set={"modified": F.col("s.modified")}
    ).execute()
    run.written("sources")


def note_unchanged(run: Run, now: Fingerprint, earlier: RecordsFacts) -> Mapping[str, int]:
    """Record that the tables are complete with the sources as they are now."""
    facts = earlier.model_copy(update={"fingerprint": now, "tables": bronze_tables(run)})
    empty = run.read("records").limit(0)
    run.write(empty, "records", tables.records_schema(run.config), facts, append=True)
    return earlier.counts


def check_counts(counts: Mapping[str, int]) -> None:
    """Raise CheckError unless every record that was read stands in exactly one of the two tables."""
    if counts["records_in"] != counts["records"] + counts["quarantined"]:
        raise CheckError(
            f"{counts['records_in']:,} records were read, but {counts['records']:,} stand in bronze/records and "
            f"{counts['quarantined']:,} in bronze/quarantine: please report this defect"
        )


def ingested(run: Tables) -> dict[str, int] | None:
    """Return the counts of a complete `ingest`, None where it has to run.

    It has to where a file could not be read to its end for another reason than its permissions: that may have passed.
    """
    records = run.commit("records")
    if records is None:
        return None
    now = ingest_fingerprint(run.config)
    facts = records.made_by(now, RecordsFacts)
    if facts is None or facts.failed or now.inputs["sources"] is None or facts.tables != bronze_tables(run):
        return None
    return facts.counts


STAGE = Stage("ingest", ingest, ingested)
