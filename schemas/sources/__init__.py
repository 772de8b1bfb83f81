"""`[[source]]`: one module a format, with the keys of that format."""

from typing import ClassVar

from common.sections import NonEmpty, Positive, Section


class SourceSettings(Section):
    """Keys that every `[[source]]` has."""

    places: ClassVar[frozenset[str]] = frozenset({"path", "root"})
    """Keys that say where the files lie, on which the published rows do not depend."""
    format: str
    path: NonEmpty
    """File, or a pattern with `*`, `**`, `?`, `[…]` and `{a,b}`; `.gz`, `.bz2` and `.zst` are decompressed."""
    root: str | None = None
    """Folder that paths in the tables are relative to; by default the part of `path` before its first wildcard."""
    follow_links: bool = False
    """Also read files that a link outside the root leads to; without it they are quarantined."""
    max_expansion: Positive = 200
    """Ratio of content to size beyond which a compressed or Parquet file is given up, where it also exceeds 64 MiB."""
