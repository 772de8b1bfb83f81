"""Increments: new source files since the last ingestion, and rows added to a table since a version.

A stage continues from its last result where nothing but new input separates the two runs: the same configuration and
code, and an input table that only had files added. Its old rows stay as they are, to the last byte, and only the new
ones are read. After any other change, everything is rebuilt.
"""

from urllib.parse import unquote

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyspark.sql import DataFrame, SparkSession

from common.storage import Storage
from etl.lake.log import open_table
from etl.lake.tables import read_files


def _files(table: DeltaTable) -> set[str]:
    """Return the paths of the files of a version, relative to the table, not encoded as URIs."""
    return {unquote(path) for path in table.get_add_actions(flatten=True).column("path").to_pylist()}


def added_rows(spark: SparkSession, uri: str, since: str, now: str, options: Storage) -> DataFrame | None:
    """Return the rows added to a table between two versions (identities); None where any were removed.

    None also where the earlier version belongs to another table, or can no longer be opened.
    """
    (old_table, _, old), (new_table, _, new) = since.rpartition("@"), now.rpartition("@")
    if old_table != new_table:
        return None
    try:
        before, after = open_table(uri, options, int(old)), open_table(uri, options, int(new))
    except DeltaError:
        return None
    if before is None or after is None:
        return None
    files, kept = _files(after), _files(before)
    if not kept <= files:
        return None
    schema = spark.read.format("delta").option("versionAsOf", new).load(uri).schema
    added = sorted(files - kept)
    return read_files(spark, uri, added, schema) if added else spark.createDataFrame([], schema)
