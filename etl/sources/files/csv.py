"""CSV of RFC 4180 and its usual dialects.

LF, CRLF (with any number of CRs) or, by file, CR ends a record outside quotes; a quoted field may hold line breaks,
and quotes doubled or behind an escape. A quote inside an unquoted field, text behind a closing quote and a wrong number
of fields are refused. No records are blank lines, rows of delimiters alone, comments, a line `sep=;`, and the header
line, unless it may hold records: where a quote or a CR in it takes other lines with it, or none of the configured
columns is in it.
"""

import csv
import io
import re
import sys
from codecs import BOM_UTF8
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from common.errors import ConfigurationError
from etl.images.decoding import Pixels
from etl.sources.content.streams import CHUNK, MAX_RECORD_BYTES, read_lines
from etl.sources.contract import Contract, UntypedText
from etl.sources.csv_dialect import Dialect, LineFeeds, arguments, dialect_of
from etl.sources.files.csv_records import RawRecord, Records
from etl.sources.files.formats import (
    FilePart,
    Found,
    Rejected,
    Skipped,
    SourceFormat,
    damaged,
    decode,
    rejected,
    skipped,
)
from schemas.sources import SourceSettings
from schemas.sources.csv import Csv, PixelColumns

NO_COLUMN = (
    "the header line has none of the configured columns: if it is a record, source.header names the columns; otherwise "
    "look at [columns], source.delimiter and source.encoding"
)
"""Detail for the header of a file whose records all lack their columns."""


class CsvFormat(SourceFormat):
    """`format = "csv"`"""

    name = "csv"

    def read(
        self, part: FilePart, settings: SourceSettings, contract: Contract
    ) -> Iterator[Found | Rejected | Skipped]:
        assert isinstance(settings, Csv)
        file = CsvFile(part, settings, contract.needed)
        stream, records, parse = file.stream, file.records, file.parse
        header = (
            None if settings.header is None else Header(settings.header, contract.needed, settings.pixels)
        )
        given = dict(part.file.columns)
        part.lines = of_header = 0
        unusable: Rejected | None = None
        if header is not None:
            records.width = header.width
        for record in records:
            line = record.line
            if stream.damage is not None and not line.ended:
                yield damaged(stream, line.position, line.content)
                break
            row = parse(record)
            if header is None:
                names = row if not isinstance(row, Rejected) else []
                header = Header(names, contract.needed, settings.pixels)
                records.width = header.width
                if isinstance(row, Rejected):
                    header.problem = row.detail
                    if record.lines > 1 or row.reason == "too_long" or b"\r" in record.content:
                        yield row  # with records, perhaps the whole file, that would otherwise go unnoticed
                        part.lines = record.lines
                        continue
                    unusable = row
                elif not header.has_any and any(name not in given for name in contract.required):
                    yield rejected(line.position, line.content, "invalid_header", NO_COLUMN, line.size)
                    part.lines = (
                        record.lines
                    )  # it may well be a record, or the whole file in another encoding
                    continue
                of_header = line.size
                continue
            unusable = None
            part.lines += record.lines
            if header.problem is not None:
                detail = f"the header line cannot be used: {header.problem}"
                yield rejected(line.position, line.content, "invalid_header", detail, line.size)
                continue
            if isinstance(row, Rejected):
                yield row
                continue
            if len(row) != header.width:
                problem = header.problem_of(row)
                if problem is not None:
                    yield rejected(line.position, line.content, "wrong_field_count", problem, line.size)
                    continue
                row.append("")  # where the header has a delimiter at its end, and the record none
            values: dict[str, object] = {name: UntypedText(row[place]) for name, place in header.places}
            if settings.pixels is not None and header.pixels is not None:
                shape = (settings.pixels.height, settings.pixels.width, settings.pixels.channels)
                values[settings.pixels.column] = Pixels(row[header.pixels], *shape)
            yield Found(line.position, line.size, line.content, values)
        else:
            if unusable is not None:  # and nothing follows, so that it may well be the whole file
                yield unusable
                part.lines, of_header = 1, 0
            if stream.damage is not None:
                yield damaged(stream, records.position)
        yield from skipped(header=of_header, **records.skipped)

    def columns(
        self, part: FilePart, settings: SourceSettings, contract: Contract
    ) -> Iterator[tuple[Collection[str], int]]:
        """Yield the header. Raises ConfigurationError for a file that is JSON by the look of it."""
        assert isinstance(settings, Csv)
        if settings.header is not None:
            yield Header(settings.header, contract.needed, settings.pixels).columns, 0
            return
        file = CsvFile(part, settings, contract.needed)
        for record in file.records:
            row = file.parse(record)
            found = Header([] if isinstance(row, Rejected) else row, contract.needed, settings.pixels)
            names = found.columns
            begins = record.line.content.removeprefix(BOM_UTF8).startswith((b'{"', b'[{"'))
            if begins and not set(names) & set(contract.needed):
                raise ConfigurationError(
                    f'{part.file.path} is JSON by the look of it: source.format = "jsonl"'
                )
            if names:
                yield names, record.line.size
            return


class CsvFile:
    """Opened file: its stream, its dialect and its records."""

    def __init__(self, part: FilePart, settings: Csv, needed: Collection[str]) -> None:
        csv.field_size_limit(sys.maxsize)  # the length of a record is bounded already
        self.stream, reader = part.open()
        self.dialect = dialect_of(reader.peek(CHUNK), settings, needed)
        if self.dialect.ends_with_cr:
            reader = io.BufferedReader(LineFeeds(reader), CHUNK)
        self.records = Records(read_lines(reader, 0, None), self.dialect, settings.resynchronise)
        self.parser = Parser(self.dialect)

    def parse(self, record: RawRecord) -> list[str] | Rejected:
        """Return the fields of a record."""
        line = record.line
        if line.size > MAX_RECORD_BYTES:
            detail = f"the record is longer than {MAX_RECORD_BYTES:,} bytes"
            return rejected(line.position, line.content, "too_long", detail, line.size)
        if record.problem is not None:
            return rejected(line.position, line.content, *record.problem, line.size)
        text = decode(record.content, line.position)
        if isinstance(text, Rejected):
            return rejected(line.position, line.content, text.reason, text.detail, line.size)
        try:
            return self.parser.fields(text)
        except csv.Error:
            detail = 'a bare carriage return, or misplaced quotes: source.line_end = "cr" ends lines at them'
            return rejected(line.position, line.content, "invalid_csv", detail, line.size)


class Header:
    """Columns of a file."""

    def __init__(
        self, names: Sequence[str], needed: Collection[str], pixels: PixelColumns | None = None
    ) -> None:
        """White space around a name is no part of it, unless a configured column has it."""
        self.names = [name if name in needed else name.strip() for name in names]
        self.columns, self.pixels = list(self.names), None
        if pixels is not None and pixels.first in self.names:
            first = self.names.index(pixels.first)
            if first + pixels.count <= len(names):
                self.pixels = slice(first, first + pixels.count)
                self.columns[self.pixels] = [pixels.column]
        self.width = len(self.names)
        self.has_any = self.pixels is not None or any(name in self.names for name in needed)
        twice = [column for column in needed if self.names.count(column) > 1]
        self.problem = f"it has the column {twice[0]!r} more than once" if twice else None
        self.places = [(name, self.names.index(name)) for name in needed if name in self.names]

    def problem_of(self, row: list[str]) -> str | None:
        """Return what is wrong with a record of another number of fields, None where only its last delimiter is."""
        more = len(row) - self.width
        if more == 1 and not row[-1]:
            return None  # a delimiter at the end of each record, but not of the header
        if more == -1 and not self.names[-1]:
            return None
        return f"{len(row):,} fields, but the header has {self.width:,}"


class Parser:
    """Python's parser with the dialect of a file; it is made once, and given one record at a time."""

    def __init__(self, dialect: Dialect) -> None:
        self.delimiter, self.quote = dialect.delimiter.decode(), dialect.quote.decode()
        self.escape, self.spaces = dialect.escape.decode(), dialect.skips_spaces
        self._record: str | None = None
        escapes = bool(self.escape and not self.quote)
        more: dict[str, Any] = {"escapechar": self.escape} if escapes else {}
        # In strict mode a line break behind an escape would be an unexpected end.
        self._reader = csv.reader(
            self,
            strict=not escapes,
            skipinitialspace=self.spaces,
            **arguments(self.delimiter, self.quote),
            **more,
        )
        # An escape is text where it escapes nothing.
        alone = rf"{re.escape(self.escape)}([{re.escape(self.delimiter + self.escape)}\r\n])?"
        self._escapes = re.compile(alone) if escapes else None
        self._more = self.spaces or escapes
        self._field: re.Pattern[str] | None = None
        if self.escape and self.quote:
            inside, quote = dialect.inside().decode(), re.escape(self.quote)
            field = rf"{quote}({inside}){quote}|([^{re.escape(self.delimiter)}]*)"
            self._field = re.compile(rf"{' *' * self.spaces}(?:{field})({re.escape(self.delimiter)}|\Z)")
            self._escaped = re.compile(
                rf"{re.escape(self.escape)}([{quote}{re.escape(self.escape)}])|{quote}({quote})"
            )

    def __iter__(self) -> "Parser":
        return self

    def __next__(self) -> str:
        record, self._record = self._record, None
        if record is None:
            raise StopIteration
        return record

    def fields(self, record: str) -> list[str]:
        """Return the fields of a record. Raises csv.Error."""
        plain = not self.quote or self.quote not in record
        if plain and not self._more and "\r" not in record:
            return record.split(self.delimiter)
        if self._field is not None:
            return self._with_escapes(record)
        if self._escapes is not None:
            record = self._escapes.sub(lambda match: match[0] if match[1] else match[0] * 2, record)
        self._record = record
        return next(self._reader)

    def _with_escapes(self, record: str) -> list[str]:
        """Return the fields of a record with escapes within quotes, which Python's parser would also find elsewhere."""
        assert self._field is not None
        fields, place = [], 0
        while True:
            match = self._field.match(record, place)
            if match is None or "\r" in (match[2] or ""):
                raise csv.Error
            quoted = match[2] is None
            fields.append(self._escaped.sub(r"\1\2", match[1]) if quoted else match[2])
            if not match[3]:
                return fields
            place = match.end()


FORMAT = CsvFormat()
