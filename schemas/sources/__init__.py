"""`[[source]]`: one module a format, with the keys of that format."""

import codecs
from typing import Annotated, ClassVar

from pydantic import AfterValidator

from common.sections import NonEmpty, Positive, Section

NO_TEXT = {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape"}
"""Codecs that are no encodings of files."""


def _check_encoding(name: str) -> str:
    if name == "auto":
        return name
    try:
        known = codecs.lookup(name)
        readable = codecs.getincrementaldecoder(name)().decode("a\n".encode(name)) == "a\n"
    except (LookupError, ValueError, TypeError):
        readable = False
    if not readable or known.name in NO_TEXT:
        raise ValueError(
            "allowed are `auto` and the encodings of Python, such as `utf-8`, `cp1252`, `iso-8859-15`, `utf-16`, "
            "`gb18030` and `shift_jis`"
        )
    return name


class SourceSettings(Section):
    """Keys that every `[[source]]` has."""

    places: ClassVar[frozenset[str]] = frozenset({"path", "root"})
    """Keys that say where the files lie, on which the published rows do not depend."""
    format: str
    path: NonEmpty
    """File, or a pattern with `*`, `**`, `?`, `[…]` and `{a,b}`; compressed files are decompressed."""
    root: str | None = None
    """Folder that paths in the tables are relative to; by default the part of `path` before its first wildcard."""
    follow_links: bool = False
    """Also read files that a link outside the root leads to; without it they are quarantined."""
    max_expansion: Positive = 200
    """Ratio of content to size beyond which a compressed or Parquet file is given up, where it also exceeds 64 MiB."""


class TextSettings(SourceSettings):
    """Keys of the formats that are text."""

    encoding: Annotated[str, AfterValidator(_check_encoding)] = "utf-8"
    """Encoding of the files, any of Python's, or `auto`: UTF-8, else as detected. A byte order mark goes first."""
