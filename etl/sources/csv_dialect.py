"""Dialect of a CSV file: as configured, or by its beginning where the configuration leaves it open."""

import csv
import io
import re
from codecs import BOM_UTF8
from collections.abc import Collection
from typing import Any, NamedTuple

from schemas.sources.csv import AUTO, Csv

SEPARATOR_LINE = re.compile(rb'"?sep=(.)"?\r*', re.IGNORECASE)
"""First line by which Excel, and what writes for it, names the delimiter."""
DELIMITERS = (b",", b";", b"\t", b"|")
LOOKED_LINES = 20


class Dialect(NamedTuple):
    """Signs of a file, as UTF-8; an empty one is not in use."""

    delimiter: bytes
    quote: bytes
    escape: bytes
    comment: bytes
    skips_spaces: bool
    """Spaces behind a delimiter are no part of the field."""
    ends_with_cr: bool
    """CR alone ends a line."""

    def inside(self) -> bytes:
        """Return the pattern of what stands between quotes: quotes only doubled or behind an escape.

        An escape that stands before neither a quote nor another escape is text.
        """
        quote, escape = re.escape(self.quote), re.escape(self.escape)
        if not escape:
            return rb"(?:%s++|%s%s)*+" % (_others(self.quote), quote, quote)
        escaped = rb"%s(?:%s|%s)?" % (escape, escape, quote)
        return rb"(?:%s++|%s|%s%s)*+" % (_others(self.quote, self.escape), escaped, quote, quote)


def _others(*signs: bytes) -> bytes:
    """Return the pattern of a byte at which none of the signs begins."""
    if all(len(sign) == 1 for sign in signs):
        return rb"[^%s]" % re.escape(b"".join(signs))
    return rb"(?:(?!%s)[\s\S])" % b"|".join(map(re.escape, signs))


def dialect_of(beginning: bytes, settings: Csv, needed: Collection[str]) -> Dialect:
    """Return the dialect of a file by its beginning; `needed` are the configured columns."""
    ends_with_cr = settings.line_end == "cr" or (settings.line_end == AUTO and has_cr_alone(beginning))
    lines = _lines(beginning, ends_with_cr)
    comment = settings.comment.encode()
    separator = SEPARATOR_LINE.fullmatch(lines[0]) if lines else None
    lines = [
        line
        for line in lines[separator is not None :]
        if line.strip() and not (comment and line.startswith(comment))
    ]
    if separator is not None:
        delimiter = separator[1]
    elif settings.delimiter == AUTO:
        delimiter = _delimiter(lines, settings, needed)
    else:
        delimiter = settings.delimiter.encode()
    quote, escape = settings.quote.encode(), settings.escape.encode()
    first = lines[0] if lines and settings.header is None else b""
    spaced = first.count(delimiter) == first.count(delimiter + b" ") > 0
    spaced = spaced and not any(name.startswith(" ") for name in needed)
    return Dialect(delimiter, quote, escape, comment, spaced, ends_with_cr)


def _lines(beginning: bytes, ends_with_cr: bool) -> list[bytes]:
    """Return the first lines."""
    content = beginning.removeprefix(BOM_UTF8)
    return content.split(b"\r" if ends_with_cr else b"\n", LOOKED_LINES)[:LOOKED_LINES]


def has_cr_alone(beginning: bytes) -> bool:
    """Return True where CR alone ends the lines of a file: the first line outside quotes, and most of the others.

    LF within quotes is no line end, since Excel for the Macintosh writes it within a cell.
    """
    if b"\r" not in beginning:
        return False
    beginning = beginning.removesuffix(b"\r")  # an LF may follow
    outside = b"".join(beginning.split(b'"')[::2])
    feeds = outside.count(b"\n")
    alone = outside.count(b"\r") - outside.count(b"\r\n")
    first = re.search(rb"\r+\n?|\n", outside)
    if first is None or b"\n" in first[0]:
        return False
    return alone > feeds


def _delimiter(lines: list[bytes], settings: Csv, needed: Collection[str]) -> bytes:
    """Return the delimiter that gives most of the needed columns, or for a configured header most whole records."""

    def score(delimiter: bytes) -> tuple[int, int]:
        if settings.header is not None:
            width = len(settings.header)
            return sum(len(fields(line, delimiter, settings.quote)) == width for line in lines), 0
        names = [name.strip() for name in fields(lines[0], delimiter, settings.quote)] if lines else []
        return len(set(names) & {name.strip() for name in needed}), len(names)

    return max(DELIMITERS, key=score)  # the first of equals


def fields(line: bytes, delimiter: bytes, quote: str) -> list[str]:
    """Return the fields of a line by themselves."""
    text = line.decode("utf-8", "replace").rstrip("\r")
    try:
        return next(csv.reader([text], **arguments(delimiter.decode(), quote)), [])
    except csv.Error:
        return []


def arguments(delimiter: str, quote: str) -> dict[str, Any]:
    """Return the arguments for Python's parser."""
    if not quote:
        return {"delimiter": delimiter, "quoting": csv.QUOTE_NONE}
    return {"delimiter": delimiter, "quotechar": quote}


class LineFeeds(io.RawIOBase):
    """Stream with an LF for each CR."""

    def __init__(self, source: io.BufferedReader) -> None:
        super().__init__()
        self.source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self.source.read(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(content)] = content
        return len(content)
