"""CSV of RFC 4180 in strict UTF-8, with the configured delimiter and quote.

LF or CRLF ends a record outside quotes; a quoted field may hold line breaks and doubled quotes. A quote inside an
unquoted field, text behind a closing quote and a wrong number of fields are refused. Blank lines are no records, nor
is the header line, unless a quote in it takes other lines with it.
"""

import csv
import io
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from etl.sources.contract import Contract, UntypedText
from etl.sources.files.formats import FilePart, Found, Rejected, SourceFormat, damaged, decode, rejected
from etl.sources.files.streams import MAX_RECORD_BYTES, Line, read_line
from schemas.sources import SourceSettings
from schemas.sources.csv import Csv

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class RawRecord:
    """Record without its final LF, and the fault of its quotes."""

    line: Line
    problem: tuple[str, str] | None


class CsvFormat(SourceFormat):
    """`format = "csv"`"""

    name = "csv"

    def read(
        self, part: FilePart, settings: SourceSettings, contract: Contract
    ) -> Iterator[Found | Rejected]:
        assert isinstance(settings, Csv)
        csv.field_size_limit(sys.maxsize)  # the length of a record is bounded already
        stream, reader = part.open()
        header = settings.header
        header_problem = _header_problem(header, contract) if header is not None else None
        position = 0
        for record in split_records(reader, settings.delimiter.encode(), settings.quote.encode()):
            line = record.line
            if stream.damage is not None and not line.ended:
                yield damaged(stream, line.position, line.content)
                return
            position = line.position + line.size + line.ended
            if not without_mark(line).strip(b"\r"):
                continue
            row = parse_record(record, settings)
            if header is None:
                header = [] if isinstance(row, Rejected) else row
                header_problem = row.detail if isinstance(row, Rejected) else _header_problem(row, contract)
                if isinstance(row, Rejected) and (b"\n" in line.content or row.reason == "too_long"):
                    yield row  # with records, perhaps the whole file, that would otherwise go unnoticed
            elif header_problem is not None:
                detail = f"the header line cannot be used: {header_problem}"
                yield rejected(line.position, line.content, "invalid_header", detail, line.size)
            elif isinstance(row, Rejected):
                yield row
            elif len(row) != len(header):
                detail = f"{len(row):,} fields, but the header has {len(header):,}"
                yield rejected(line.position, line.content, "wrong_field_count", detail)
            else:
                values = {
                    name: UntypedText(row[header.index(name)]) for name in contract.needed if name in header
                }
                yield Found(line.position, line.size, line.content, values)
        if stream.damage is not None:
            yield damaged(stream, position)

    def columns(
        self, part: FilePart, settings: SourceSettings, contract: Contract
    ) -> Iterator[tuple[Collection[str], int]]:
        """Yield the header."""
        assert isinstance(settings, Csv)
        if settings.header is not None:
            yield settings.header, 0
            return
        _, reader = part.open()
        for record in split_records(reader, settings.delimiter.encode(), settings.quote.encode()):
            if without_mark(record.line).strip(b"\r"):
                row = parse_record(record, settings)
                if not isinstance(row, Rejected):
                    yield row, record.line.size
                return


def _header_problem(header: list[str], contract: Contract) -> str | None:
    twice = [column for column in contract.needed if header.count(column) > 1]
    return f"it has the column {twice[0]!r} more than once" if twice else None


def without_mark(line: Line) -> bytes:
    """Return the content of a line without the byte order mark at the beginning of a file."""
    return line.content.removeprefix(BYTE_ORDER_MARK) if line.position == 0 else line.content


def parse_record(record: RawRecord, settings: Csv) -> list[str] | Rejected:
    """Return the fields of a record."""
    line = record.line
    if line.size > MAX_RECORD_BYTES:
        detail = f"the record is longer than {MAX_RECORD_BYTES:,} bytes"
        return rejected(line.position, line.content, "too_long", detail, line.size)
    if record.problem is not None:
        return rejected(line.position, line.content, *record.problem)
    content = without_mark(line).removesuffix(b"\r")
    text = decode(content, line.position)
    if isinstance(text, Rejected):
        return rejected(line.position, line.content, text.reason, text.detail)
    reader = csv.reader([text], delimiter=settings.delimiter, quotechar=settings.quote, strict=True)
    try:
        return next(reader)
    except csv.Error:
        return rejected(
            line.position, line.content, "invalid_csv", "a bare carriage return, or misplaced quotes"
        )


def split_records(
    reader: io.BufferedReader, delimiter: bytes, quote: bytes, limit: int = MAX_RECORD_BYTES
) -> Iterator[RawRecord]:
    """Split at line breaks outside quotes; hold only the beginning of a record longer than `limit`."""
    position = 0
    quotes = Quotes(delimiter, quote)
    while (line := read_line(reader, position, limit)) is not None:
        start, size, ended = line.position, line.size, line.ended
        parts, held = [line.content], len(line.content)
        quotes.begin(without_mark(line))
        while quotes.open and ended:
            following = read_line(reader, start + size + 1, limit)
            if following is None:
                break
            size += 1 + following.size
            ended = following.ended
            if held < limit:
                parts.append(following.content[: limit - held])
                held += 1 + len(parts[-1])
            quotes.go_on(following.content)
        problem = quotes.problem
        if quotes.open:
            problem = (
                "unclosed_quote",
                "a quote that opens here is never closed: all to the end of the file is this row",
            )
        yield RawRecord(Line(start, b"\n".join(parts), size, ended), problem)
        position = start + size + ended


class Quotes:
    """Quotes of a record, followed line by line: one open at the end of a line, and any fault."""

    def __init__(self, delimiter: bytes, quote: bytes) -> None:
        self.delimiter, self.quote = delimiter, quote
        self.open = False
        self.problem: tuple[str, str] | None = None

    def begin(self, line: bytes) -> None:
        """Follow the first line of a record."""
        self.open, self.problem = False, None
        if self.quote in line:
            self._fields(line, 0)

    def go_on(self, line: bytes) -> None:
        """Follow a further line, inside quotes."""
        place = self._close(line, 0)
        if place is not None:
            self._after_quoted(line, place)

    def _fields(self, line: bytes, place: int) -> None:
        """Follow the fields from `place`, where one begins."""
        while True:
            if line.startswith(self.quote, place):
                self.open = True
                closed = self._close(line, place + len(self.quote))
                if closed is None:
                    return
                self._mark_text_behind(line, closed)
                place = closed
            end = line.find(self.delimiter, place)
            stop = len(line) if end < 0 else end
            if line.find(self.quote, place, stop) >= 0 and self.problem is None:
                self.problem = ("misplaced_quote", "a quote stands inside an unquoted field")
            if end < 0:
                return
            place = end + len(self.delimiter)

    def _close(self, line: bytes, place: int) -> int | None:
        """Return where the text behind the closing quote begins; None when the line ends inside quotes."""
        width = len(self.quote)
        while (end := line.find(self.quote, place)) >= 0:
            if not line.startswith(self.quote, end + width):
                self.open = False
                return end + width
            place = end + 2 * width
        return None

    def _mark_text_behind(self, line: bytes, place: int) -> None:
        rest = line[place : place + max(len(self.delimiter), 2)]
        if rest and rest != b"\r" and not rest.startswith(self.delimiter) and self.problem is None:
            self.problem = ("misplaced_quote", "text stands behind a closing quote")

    def _after_quoted(self, line: bytes, place: int) -> None:
        self._mark_text_behind(line, place)
        end = line.find(self.delimiter, place)
        if end >= 0:
            self._fields(line, end + len(self.delimiter))


FORMAT = CsvFormat()
