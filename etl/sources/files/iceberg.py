"""Iceberg tables: the Parquet files of one snapshot, as its manifests list them; a record is a row of a file.

The metadata are read by pyiceberg, which is not installed by default, without a catalog: from the newest file in the
folder `metadata`, or the one that `version-hint.text` names. A table's catalog may know a newer one elsewhere.
"""

import importlib.util
import re
from datetime import UTC, datetime
from typing import Any

from common import storage
from common.errors import DataError, UsageError
from common.storage import Storage
from etl.sources.content.listing import SourceFile, partition_columns
from etl.sources.files.parquet import ParquetFormat
from schemas.sources import SourceSettings
from schemas.sources.iceberg import Iceberg

METADATA = re.compile(r"(?:v(\d+)|(\d+)-.*)\.metadata\.json")
NEVER_CHANGED = datetime.fromtimestamp(0, UTC)
"""In place of a time of modification: each data file is written once, under a name of its own."""
EXPORT = "compact or rewrite the table, or export the rows to Parquet files and read those"


class IcebergFormat(ParquetFormat):
    """`format = "iceberg"`"""

    name = "iceberg"

    def files(self, settings: SourceSettings, index: int, options: Storage | None = None) -> list[SourceFile]:
        """Return the files of the configured snapshot. Raises DataError for a table that cannot be read as files.

        Raises UsageError where pyiceberg is not installed.
        """
        assert isinstance(settings, Iceberg)
        if importlib.util.find_spec("pyiceberg") is None:
            raise UsageError(
                'format = "iceberg" needs the package pyiceberg: pip install "ringlake[iceberg]"'
            )
        from pyiceberg.table import StaticTable

        location = storage.absolute(settings.path)
        table = StaticTable.from_metadata(
            newest_metadata(location, options), dict((options or Storage()).fsspec)
        )
        if settings.snapshot is not None and table.snapshot_by_id(settings.snapshot) is None:
            known = ", ".join(str(one.snapshot_id) for one in table.snapshots()[-3:])
            raise DataError(
                f"the Iceberg table {location} has no snapshot {settings.snapshot}; its newest are {known}: correct "
                "source.snapshot"
            )
        _check_names(table, location)
        root = _plain(table.location()).rstrip("/") + "/"
        found = []
        for task in table.scan(snapshot_id=settings.snapshot).plan_files():
            path = _plain(task.file.file_path)
            if task.delete_files:
                raise DataError(
                    f"the Iceberg table {location} has rows that were deleted but still stand in its files: {EXPORT}"
                )
            if task.file.file_format.name != "PARQUET":
                raise DataError(
                    f"the Iceberg table {location} has a file that is not Parquet ({path}): {EXPORT}"
                )
            relative = path.removeprefix(root)
            size, columns = task.file.file_size_in_bytes, partition_columns(relative)
            found.append(SourceFile(index, relative, path, size, NEVER_CHANGED, columns=columns))
        if not found:
            raise DataError(f"the Iceberg table {location} has no files in this snapshot")
        return sorted(found, key=lambda file: file.path)


def newest_metadata(location: str, options: Storage | None) -> str:
    """Return the newest metadata file of a table. Raises DataError where there is none."""
    file_system, folder = storage.filesystem(storage.join(location, "metadata"), options)
    try:
        names = [str(name).rpartition("/")[2] for name in file_system.ls(folder, detail=False)]
    except (FileNotFoundError, NotADirectoryError):
        names = []
    numbered = {
        int(match[1] or match[2]): name
        for name in sorted(names)
        if (match := METADATA.fullmatch(name)) is not None
    }
    if not numbered:
        raise DataError(
            f"{location} is no Iceberg table: name the folder that holds metadata/, without wildcards"
        )
    number = max(numbered)
    if "version-hint.text" in names:
        with file_system.open(f"{folder}/version-hint.text", "rb") as file:
            hint = file.read(100).decode("ascii", "replace").strip()
        if hint.isdecimal() and int(hint) in numbered:
            number = int(hint)
    return storage.join(location, "metadata", numbered[number])


def _check_names(table: Any, location: str) -> None:
    """Raise DataError where a column was renamed: older files have it under its older name."""
    now = table.schema()
    for schema in table.metadata.schemas:
        for number in schema.field_ids & now.field_ids:
            before, after = schema.find_column_name(number), now.find_column_name(number)
            if before != after:
                raise DataError(
                    f"the column {after!r} of the Iceberg table {location} was called {before!r}, as older files still "
                    f"call it: {EXPORT}"
                )


def _plain(location: str) -> str:
    """Return a location, local ones as a path."""
    return re.sub("^file:(?://)?(?=/)", "", location)


FORMAT = IcebergFormat()
