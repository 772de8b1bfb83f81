"""`[[source]]`: one module a format, with the keys of that format."""

from common.sections import NonEmpty, Positive, Section


class SourceSettings(Section):
    """Keys that every `[[source]]` has."""

    format: str
    path: NonEmpty
    """A file, or a pattern with `*`, `**`, `?`, `[…]` and `{a,b}`; `.gz`, `.bz2` and `.zst` are decompressed."""
    root: str | None = None
    """Paths in the tables are relative to it; by default the part of `path` before its first wildcard."""
    follow_links: bool = False
    """Also read files to which a link leads out of the root; without it they are quarantined."""
    max_expansion: Positive = 200
    """A compressed or Parquet file is given up where its content exceeds so many times its size, and 64 MiB."""
