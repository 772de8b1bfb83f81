"""Increments: new source files since the last ingestion, and rows added to a table since a version.

A stage continues from its last result where nothing but new input separates the two runs: the same configuration and
code, and an input table that only had files added. Its old rows stay as they are, to the last byte, and only the new
ones are read. After any other change, everything is rebuilt.
"""

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from common.errors import DataError
from common.storage import Storage
from etl.lake.log import file_paths, open_table
from etl.lake.tables import read_files
from schemas.tables import spark_schema


def added_rows(spark: SparkSession, uri: str, since: str, now: str, options: Storage) -> DataFrame | None:
    """Return the rows added to a table between two versions (identities); None where any were removed.

    None also where the earlier version belongs to another table, or can no longer be opened.
    """
    (old_table, _, old), (new_table, _, new) = since.rpartition("@"), now.rpartition("@")
    if old_table != new_table:
        return None
    try:
        before, after = open_table(uri, options, int(old)), open_table(uri, options, int(new))
    except DataError:
        return None
    if before is None or after is None:
        return None
    files, kept = file_paths(after), file_paths(before)
    if not kept <= files:
        return None
    return read_files(spark, uri, sorted(files - kept), spark_schema(pa.schema(after.schema().to_arrow())))
