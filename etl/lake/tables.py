"""Reading and writing of the bronze and silver Delta tables, with common properties."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import pyarrow as pa
from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from common import storage
from common.storage import Storage
from etl.lake.facts import CommitFacts
from etl.lake.log import (
    Commit,
    drop_stale_checksums,
    file_paths,
    no_such_table,
    open_table,
    table_version,
    version_in,
)
from schemas.config import Configuration
from schemas.tables import spark_schema

STATISTICS = "delta.dataSkippingNumIndexedCols"
PROPERTIES = {
    # Deletion vectors would let erased rows come back when files are read by name; column mapping hides the names.
    "delta.enableDeletionVectors": "false",
    "delta.columnMapping.mode": "none",
    # Statistics hold values: the smallest and the largest id, the beginning of a text. In the log no erasure could
    # reach them, and nobody looks for ranges of ids.
    STATISTICS: "0",
    # `provenance` in the manifest names versions of these tables: their log stays, and etl/versions/retention.py
    # decides about their files.
    "delta.deletedFileRetentionDuration": "interval 30 days",
    "delta.enableExpiredLogCleanup": "false",
}


def read_table(spark: SparkSession, uri: str, version: int | None = None) -> DataFrame:
    """Return a table at its newest or a given version. Raises UsageError naming the table when it does not exist.

    `deltalake` lists the files of a local table, for which Spark's Delta would take a job or two in each query.
    """
    if storage.is_local(uri):
        table = open_table(uri, Storage(), version)
        if table is None:
            raise no_such_table(uri)
        schema = spark_schema(pa.schema(table.schema().to_arrow()))
        return read_files(spark, uri, sorted(file_paths(table)), schema)
    if not DeltaTable.isDeltaTable(spark, uri):
        raise no_such_table(uri)
    reader = spark.read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", version)
    return reader.load(uri)


def read_files(spark: SparkSession, uri: str, paths: Sequence[str], schema: StructType) -> DataFrame:
    """Read some files of a table, by their relative paths, with the table's schema; open nothing else."""
    if not paths:
        return spark.createDataFrame([], schema)
    # Escaped: a location that looks like a pattern is none.
    reader = spark.read.option("__globPaths__", "false").schema(schema)
    return reader.parquet(*(storage.join(uri, path) for path in paths))


def read_records(
    spark: SparkSession, uri: str, table: DataFrame, ids: Collection[str], columns: Sequence[str | Column]
) -> list[Row]:
    """Collect `record_id` and the columns of some records of the table at `uri`; only the files that hold them are
    read, however many it has.
    """
    wanted = F.col("record_id").isin(sorted(ids))
    files = table.where(wanted).select("_metadata.file_name").distinct().collect() if ids else []
    holding = read_files(spark, uri, [one["file_name"] for one in files], table.schema)
    return holding.where(wanted).select("record_id", *columns).collect() if files else []


def restore_to(spark: SparkSession, uri: str, identity: str, options: Storage) -> bool:
    """Make a version of a table, given by its identity, the newest one; return False for another table's."""
    commit, version = Commit.of(uri, options), version_in(identity)
    if commit is None or commit.identity_at(version) != identity:
        return False
    if commit.version != version:
        drop_stale_checksums(uri)
        DeltaTable.forPath(spark, uri).restoreToVersion(version)
    return True


def _without_statistics(spark: SparkSession, uri: str, config: Configuration) -> None:
    """End the statistics of a table that an earlier version made; Delta takes a writer's properties for new ones."""
    table = open_table(uri, config.storage)
    if table is not None and table.metadata().configuration.get(STATISTICS) != PROPERTIES[STATISTICS]:
        spark.sql(
            f"ALTER TABLE delta.`{uri}` SET TBLPROPERTIES ('{STATISTICS}' = '{PROPERTIES[STATISTICS]}')"
        )


@contextmanager
def configured(spark: SparkSession, key: str, value: str) -> Iterator[None]:
    """Set a configuration key of the session while the body runs."""
    spark.conf.set(key, value)
    try:
        yield
    finally:
        spark.conf.unset(key)


def committing_always(spark: SparkSession) -> AbstractContextManager[None]:
    """Let Delta also commit without new files; the facts in such a commit count all the same."""
    return configured(spark, "spark.databricks.delta.skipRecordingEmptyCommits", "false")


def write_table(
    frame: DataFrame,
    uri: str,
    schema: pa.Schema,
    config: Configuration,
    facts: CommitFacts,
    append: bool = False,
) -> int:
    """Replace the content of a table, or add to it, in one commit and return its version.

    The columns are those of `schema`, in that order; the commit's `userMetadata` holds the facts.
    """
    drop_stale_checksums(uri)
    _without_statistics(frame.sparkSession, uri, config)
    names = [field.name for field in schema]
    target = spark_schema(schema)
    columns = [frame[name].cast(target[name].dataType).alias(name) for name in names]
    writer = (
        frame.select(*columns)
        .write.format("delta")
        .mode("append" if append else "overwrite")
        .option("userMetadata", facts.to_json())
    )
    if not append:
        writer = writer.option("overwriteSchema", "true")
    for key, value in PROPERTIES.items():
        writer = writer.option(key, value)
    with committing_always(frame.sparkSession):
        writer.save(uri)
    return table_version(uri, config.storage)
