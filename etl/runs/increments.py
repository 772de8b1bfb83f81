"""Increments: what has come to the sources since they were ingested, and which rows a table has had added since.

A stage goes on from what it has done where nothing but new input separates its last run from this one: the same
configuration and code, and an input table that has had files added since and none taken away. Its old rows stay as
they are, to the last byte, and only the new ones are read. Whatever else has changed, everything is made anew.
"""

import pyarrow as pa
from deltalake.exceptions import DeltaError
from pyspark.sql import DataFrame, SparkSession

from common.storage import Storage
from etl.lake.log import file_paths, open_table
from etl.lake.tables import read_files
from schemas.tables import spark_schema


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
    files, kept = file_paths(after), file_paths(before)
    if not kept <= files:
        return None
    return read_files(spark, uri, sorted(files - kept), spark_schema(pa.schema(after.schema().to_arrow())))
