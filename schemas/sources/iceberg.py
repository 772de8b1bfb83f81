"""Iceberg tables."""

from typing import ClassVar, Literal

from schemas.sources import SourceSettings


class Iceberg(SourceSettings):
    """`[[source]] format = "iceberg"`: the table whose folder is `path`; needs `pyiceberg` (the extra `iceberg`)."""

    places: ClassVar[frozenset[str]] = SourceSettings.places | {"snapshot"}
    format: Literal["iceberg"]
    snapshot: int | None = None
    """Id of the snapshot to read; by default the current one. A later one is an increment if it only adds files."""
