"""Delta tables: the Parquet files of one version, as its log lists them; a record is a row of a file.

The log is read by the `deltalake` package. Files that later versions add are new files, and those that they remove (by
OPTIMIZE, UPDATE, DELETE) are vanished ones, to increments as to everything else.
"""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from common import storage
from common.errors import DataError
from common.storage import Storage, delta_options
from etl.lake.log import ANSI
from etl.sources.content.listing import SourceFile
from etl.sources.files.parquet import ParquetFormat
from schemas.sources import SourceSettings
from schemas.sources.delta import Delta
from schemas.tables import check_delta_path

USED = ("path", "size_bytes", "modification_time", "partition")
EXPORT = "or export the rows to Parquet files and read those"


class DeltaFormat(ParquetFormat):
    """`format = "delta"`"""

    name = "delta"

    def files(self, settings: SourceSettings, index: int, options: Storage | None = None) -> list[SourceFile]:
        """Return the files of the configured version. Raises DataError for a table that cannot be read as files."""
        assert isinstance(settings, Delta)
        location = storage.absolute(settings.path)
        check_delta_path(location, "source.path")
        table = _opened(location, settings.version, options)
        _check_layout(table, location)
        actions = pa.table(table.get_add_actions(flatten=False))
        columns = [name for name in USED if name in actions.column_names]
        found = []
        for action in actions.select(columns).to_pylist():
            path = unquote(action["path"])
            whole = path if "://" in path or path.startswith("/") else storage.join(location, path)
            modified = datetime.fromtimestamp(action["modification_time"] / 1000, UTC)
            given = tuple((name, _written(value)) for name, value in (action.get("partition") or {}).items())
            found.append(SourceFile(index, path, whole, action["size_bytes"], modified, columns=given))
        if not found:
            raise DataError(f"version {table.version()} of the Delta table {location} has no files")
        return sorted(found, key=lambda file: file.path)


def _opened(location: str, version: int | None, options: Storage | None) -> DeltaTable:
    try:
        return DeltaTable(location, version=version, storage_options=delta_options(options or Storage()))
    except TableNotFoundError as error:
        raise DataError(
            f"{location} is no Delta table: name the folder that holds _delta_log, without wildcards"
        ) from error
    except (DeltaError, OSError) as error:
        said = ANSI.sub("", str(error)).partition("\n")[0].rstrip(". ")
        which = "" if version is None else f"version {version} of "
        raise DataError(
            f"{which}the Delta table {location} cannot be read: {said}; check source.version and the table's log"
        ) from error


def _check_layout(table: DeltaTable, location: str) -> None:
    """Raise DataError where the rows of the table are not those of its files, or columns have other names there."""
    told = f"version {table.version()} of the Delta table {location}"
    mode = table.metadata().configuration.get("delta.columnMapping.mode", "none")
    if mode != "none":
        raise DataError(
            f"{told} maps its columns to other names in its files (delta.columnMapping.mode = {mode!r}): copy it into "
            f"a table without that, {EXPORT}"
        )
    if "deletionVectors" in (table.protocol().reader_features or ()) and _has_deleted_rows(table):
        raise DataError(
            f"{told} has deletion vectors: rows that were deleted but still stand in its files. Write the files anew "
            f"by REORG TABLE … APPLY (PURGE), {EXPORT}"
        )


def _has_deleted_rows(table: DeltaTable) -> bool:
    try:
        return any(batch.num_rows for batch in table.deletion_vectors())
    except DeltaError:  # a vector that cannot be read is one
        return True


def _written(value: Any) -> str | None:
    """Return the value of a partition column as text."""
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


FORMAT = DeltaFormat()
