"""Increments: what has come to the sources since they were ingested, and which rows a table has had added since.

A stage goes on from what it has done where nothing but new input separates its last run from this one: the same
configuration and code, and an input table that has had files added since and none taken away. Its old rows stay as
they are, to the last byte, and only the new ones are read. Whatever else has changed, everything is made anew.
"""

from urllib.parse import unquote

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyspark.sql import DataFrame, SparkSession

from common.storage import Storage
from etl.lake.log import open_table
from etl.lake.tables import read_files


def _files(table: DeltaTable) -> set[str]:
    """The paths of the files of a version, relative to the table, as they are and not as URIs write them."""
    return {unquote(path) for path in table.get_add_actions(flatten=True).column("path").to_pylist()}


def added_rows(spark: SparkSession, uri: str, since: str, now: str, options: Storage) -> DataFrame | None:
    """The rows that a table has had added between two of its versions (identities); None where any were taken away.

    None also where the earlier version is of another table, or can no longer be opened.
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
