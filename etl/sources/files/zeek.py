"""Logs of the network sensor Zeek: lines of fields between tabs, named and typed by lines that begin with `#`.

Source: the Zeek manual, "Zeek Log Formats and Inspection", and its ASCII writer, which writes a backslash as two, and
what would be taken for a separator, a missing value or a line of the header, like what is not printable, as `\\xNN`.
Each `#fields` line holds from there on, so that logs put behind each other are read.
"""

import itertools
import re
from codecs import BOM_UTF8
from collections.abc import Collection, Iterator, Mapping

from etl.normalisers.notations import DECIMAL
from etl.sources.content.streams import MAX_RECORD_BYTES, read_lines
from etl.sources.contract import Contract, Number, Problem, Truth, UntypedText, WithNames
from etl.sources.files.formats import (
    INVALID_UTF_8,
    FilePart,
    Found,
    Rejected,
    Skipped,
    SourceFormat,
    damaged,
    rejected,
    skipped,
)
from schemas.sources import SourceSettings

SEPARATOR = "#separator"
KEYS = frozenset({"set_separator", "empty_field", "unset_field", "path", "open", "fields", "types", "close"})
"""What other lines of the header begin with, behind the `#`; lines that begin with anything else are comments."""
NUMBERS = frozenset({"time", "interval", "count", "int", "double", "port"})
NOT_FINITE = frozenset({"nan", "inf", "-inf"})
TRUTHS = {"T": Truth("true"), "F": Truth("false")}
ESCAPE = re.compile(rb"\\(?:\\|x([0-9a-fA-F]{2}))")


class ZeekFormat(SourceFormat):
    """`format = "zeek"`"""

    name = "zeek"

    def read(
        self, part: FilePart, settings: SourceSettings, contract: Contract
    ) -> Iterator[Found | Rejected | Skipped]:
        stream, reader = part.open()
        header = Header(contract.needed)
        sizes = dict.fromkeys(("header", "comment", "blank_line", "byte_order_mark", "line_end"), 0)
        position = 0
        for line in read_lines(reader, 0, None):
            if stream.damage is not None and not line.ended:
                yield damaged(stream, line.position, line.content)
                break
            position = line.position + line.size + line.ended
            sizes["line_end"] += line.ended
            content = line.content
            mark = len(BOM_UTF8) * (line.position == 0 and content.startswith(BOM_UTF8))
            row = header.read(content[mark:].rstrip(b"\r"), line.size)
            if isinstance(row, str):
                sizes["byte_order_mark"] += mark
                sizes[row] += line.size - mark
            elif isinstance(row, Problem):
                yield rejected(line.position, content, row.reason, row.detail, line.size)
            else:
                yield Found(line.position, line.size, content, row)
        else:
            if stream.damage is not None:
                yield damaged(stream, position)
        yield from skipped(**sizes)


class Header:
    """Statements of the lines with `#` so far, by which records are read."""

    def __init__(self, needed: Collection[str]) -> None:
        self.needed = needed
        self._begin("\t")

    def _begin(self, separator: str) -> None:
        """Begin anew, as another log does."""
        self.separator, self.unset, self.empty = separator, "-", "(empty)"
        self.names: list[str] = []
        self.types: list[str] = []
        self.places: list[tuple[str, int]] = []
        self.problem: str | None = "no line #fields stands before this one"

    def read(self, content: bytes, size: int) -> str | Problem | Mapping[str, object]:
        """Return the rule by which a line is skipped, the columns of a record, or why it has none."""
        if size > MAX_RECORD_BYTES:
            return Problem("too_long", f"the line is longer than {MAX_RECORD_BYTES:,} bytes")
        if not content:
            return "blank_line"
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            if content.startswith((b"#fields", b"#types")):
                self.problem = "it is not valid UTF-8"
            return Problem(INVALID_UTF_8, f"byte {error.start:,} of the line is not valid UTF-8")
        if text.startswith("#"):
            return self._line(text)
        if self.problem is not None:
            return self._unusable()
        fields = text.split(self.separator)
        if len(fields) != len(self.names):
            detail = f"{len(fields):,} fields, but the header has {len(self.names):,}"
            return Problem("wrong_field_count", detail)
        values: dict[str, object] = {}
        for name, place in self.places:
            kind = self.types[place] if self.types else None
            try:
                values[name] = self._value(fields[place], kind)
            except ValueError:
                detail = f"the column {name!r} is not of the type {kind} that #types gives it"
                return Problem("wrong_type", detail)
        names = self.names
        return WithNames(values, lambda: names)

    def _unusable(self) -> Problem:
        return Problem("invalid_header", f"the header cannot be used: {self.problem}")

    def _line(self, text: str) -> str | Problem:
        """Take in a line that begins with `#`."""
        if text.startswith(SEPARATOR):
            self._begin(unescaped(text.removeprefix(SEPARATOR)[1:]) or "\t")  # behind a space
            return "header"
        key, *values = text[1:].split(self.separator)
        if key not in KEYS:
            return "comment"
        if key == "unset_field" and values:
            self.unset = values[0]
        elif key == "empty_field" and values:
            self.empty = values[0]
        elif key == "fields":
            self.names, self.types = values, []
            self.places = [(name, values.index(name)) for name in self.needed if name in values]
            twice = [name for name in self.needed if values.count(name) > 1]
            self.problem = f"it has the column {twice[0]!r} more than once" if twice else None
        elif key == "types":
            self.types = values
            if len(values) != len(self.names):
                self.problem = f"{len(values):,} types, but {len(self.names):,} fields"
        return "header" if self.problem is None or key not in ("fields", "types") else self._unusable()

    def _value(self, field: str, kind: str | None) -> object:
        """Return a field as a value of its type; sets and vectors are texts. Raises ValueError where it has another."""
        if field == self.unset:
            return None
        if kind in NUMBERS:
            if DECIMAL.fullmatch(field) or field in NOT_FINITE:
                return Number(field)
            raise ValueError
        if kind == "bool":
            if field in TRUTHS:
                return TRUTHS[field]
            raise ValueError
        text = "" if field == self.empty else unescaped(field)
        return UntypedText(text) if kind is None else text


def unescaped(text: str) -> str:
    """Return a text without escapes; those of bytes that are no UTF-8 stay, as in the JSON that Zeek writes."""
    if "\\" not in text:
        return text
    raw = ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()) if match[1] else b"\\", text.encode())
    return raw.decode("utf-8", "backslashreplace")


def beginning(part: FilePart) -> tuple[bytes, list[int]]:
    """Return the lines with `#` at the beginning of a file as they stand there, and their positions."""
    _, reader = part.open()
    lines = list(
        itertools.takewhile(
            lambda line: line.content[:1] in (b"#", BOM_UTF8[:1]), read_lines(reader, 0, None)
        )
    )
    part.close()
    return b"".join(line.content + b"\n" for line in lines), [line.position for line in lines]


FORMAT = ZeekFormat()
