"""Division of CSV into records: quotes followed from line to line, and where to go on behind a stray one.

A quoted field that is open at the end of a line goes on in the next ones. But where RESYNCHRONISE lines in a row, none
with a quote, have just as many fields as the header, the quote that opened it is taken for a stray one: its line is
refused, and reading goes on with the line behind it. With two columns it takes RESYNCHRONISE_PAIRS lines, since prose
may well have one comma a line; with one column it never happens. A table of as many columns that stands within a field
is read wrongly, for which `resynchronise = false` is there.
"""

import re
from codecs import BOM_UTF8
from collections import Counter, deque
from collections.abc import Iterator
from typing import NamedTuple

from etl.sources.content.streams import MAX_RECORD_BYTES, Line
from etl.sources.csv_dialect import SEPARATOR_LINE, Dialect

RESYNCHRONISE, RESYNCHRONISE_PAIRS = 10, 50
SPACES = re.compile(rb" +")
LINE_END = re.compile(rb"\r*+\Z")
"""What may stand behind a closing quote at the end of a line."""
END_OF_FILE = b"\x1a"
"""Ctrl-Z, with which DOS and some databases end a text file."""
UNCLOSED = "a quote that opens here is never closed: all to the end of the file is this row"


class RawRecord(NamedTuple):
    """Record as it stands in the file, its content for a parser, and the fault of its quotes."""

    line: Line
    """All its lines, without the last line end."""
    content: bytes
    """Without byte order mark and last CRs."""
    problem: tuple[str, str] | None = None
    lines: int = 1


class Records:
    """Iterator over the records of a file; it keeps count of what is skipped, by rule."""

    def __init__(
        self,
        lines: Iterator[Line],
        dialect: Dialect,
        resynchronise: bool = True,
        limit: int = MAX_RECORD_BYTES,
    ) -> None:
        """Read records from lines; of one longer than `limit` bytes hold only the beginning."""
        self.dialect, self.resynchronise, self.limit = dialect, resynchronise, limit
        self.width = 0
        """Fields of the header, once it is known."""
        self.skipped: Counter[str] = Counter()
        self.position = 0
        """Position behind what was read."""
        self._lines = lines
        self._quotes = Quotes(dialect)
        self._whole = None if dialect.skips_spaces else whole_record(dialect)
        self._again: deque[Line] = deque()
        """Lines behind a stray quote, to be read by themselves."""
        self._stray_before = 0
        """Position up to which a quote is known for a stray one where it is open at the end of its line: the lines
        from there on were followed within quotes already, up to those that are records by themselves."""

    def __iter__(self) -> Iterator[RawRecord]:
        quote, delimiter, comment = self.dialect.quote, self.dialect.delimiter, self.dialect.comment
        first = bytes({delimiter[0], END_OF_FILE[0], *comment})
        escape = self.dialect.escape
        ends = 0
        while True:
            line = self._again.popleft() if self._again else next(self._lines, None)
            if line is None:
                break
            content = line.content
            if line.position == 0:
                content = content.removeprefix(BOM_UTF8)
            if content.endswith(b"\r"):  # or several: Windows turns the LF of Python's CRLF into another CRLF
                content = content.rstrip(b"\r")
            if not content or content[0] in first or line.position == 0:
                rule = self._rule(line, content)
                if rule is not None:
                    self._skip(rule, line)
                    continue
            if (quote and quote in content) or (escape and escape in content):
                record = self._record(line, content)
            else:
                record = RawRecord(line, content)
            ends = record.line.ended
            self.skipped["line_end"] += ends
            self.position = record.line.position + record.line.size + ends
            yield record

    def _rule(self, line: Line, content: bytes) -> str | None:
        """Return the rule by which a line is no record, None for one that is."""
        if not content:
            return "blank_line"
        if self.dialect.comment and content.startswith(self.dialect.comment):
            return "comment"
        if content == END_OF_FILE and not line.ended:
            return "end_of_file"
        if content.startswith(self.dialect.delimiter) and not content.strip(self.dialect.delimiter):
            return "empty_row"
        return "separator_line" if line.position == 0 and SEPARATOR_LINE.fullmatch(content) else None

    def _skip(self, rule: str, line: Line) -> None:
        mark = len(BOM_UTF8) * (line.position == 0 and line.content.startswith(BOM_UTF8))
        self.skipped.update({rule: line.size - mark, "byte_order_mark": mark, "line_end": line.ended})
        self.position = line.position + line.size + line.ended

    def _record(self, first: Line, content: bytes) -> RawRecord:
        """Return the record that begins with a line with quotes or escapes."""
        if not self.dialect.quote:
            return self._unquoted(first)
        if self._whole is not None and self._whole.fullmatch(content):  # as most are, in one line
            return RawRecord(first, content)
        return self._quoted(first)

    def _unquoted(self, line: Line) -> RawRecord:
        """Return a record without quotes: an escape before the line end lets it go on in the next line."""
        lines, last = [line], line
        while last.ended and _ends_escaped(last.content, self.dialect.escape):
            following = next(self._lines, None)
            if following is None:
                break
            lines.append(following)
            last = following
        return self._joined(lines, None)

    def _quoted(self, line: Line) -> RawRecord:
        quotes = self._quotes
        lines = [line]
        quotes.begin(line.content.removeprefix(BOM_UTF8) if line.position == 0 else line.content)
        needed = self._needed()
        if quotes.open and line.position < self._stray_before:
            return self._joined(lines, ("unclosed_quote", _stray(needed)))
        held, streak, last, number = len(line.content), 0, line, 1
        while quotes.open and last.ended:
            following = self._again.popleft() if self._again else next(self._lines, None)
            if following is None:
                break
            last, part = following, following.content
            number += 1
            quotes.go_on(part)
            if held >= self.limit:  # no more of it is held
                needed = 0
                continue
            held += 1 + len(part)
            lines.append(following)
            # The count is cheap, and there are few such lines.
            alone = part.count(self.dialect.delimiter) == self.width - 1 and self.dialect.quote not in part
            streak = streak + 1 if alone else 0
            if needed and streak == needed and quotes.open:
                self._again.extendleft(reversed(lines[1:]))
                self._stray_before = following.position
                return self._joined(lines[:1], ("unclosed_quote", _stray(needed)))
        problem = ("unclosed_quote", UNCLOSED) if quotes.open else quotes.problem
        return self._joined(lines, problem, last, number)

    def _needed(self) -> int:
        """Return the lines that show a stray quote, 0 where none do."""
        if not self.resynchronise or self.width < 2:
            return 0
        return RESYNCHRONISE if self.width > 2 else RESYNCHRONISE_PAIRS

    def _joined(
        self,
        lines: list[Line],
        problem: tuple[str, str] | None,
        last: Line | None = None,
        number: int | None = None,
    ) -> RawRecord:
        """Return the record of these lines, or of more up to `last`: of a long one only the beginning is held."""
        position, last = lines[0].position, last or lines[-1]
        content = lines[0].content
        if len(lines) > 1:
            content = b"\n".join([line.content for line in lines])[: self.limit + 1]
        whole = Line(position, content, last.position + last.size - position, last.ended)
        if position == 0:
            content = content.removeprefix(BOM_UTF8)
        return RawRecord(whole, content.rstrip(b"\r"), problem, number or len(lines))


def whole_record(dialect: Dialect) -> re.Pattern[bytes] | None:
    """Return the pattern of a record in one line whose quotes are in order; None without quotes."""
    if not dialect.quote:
        return None
    quote, delimiter = re.escape(dialect.quote), re.escape(dialect.delimiter)
    # Of signs of several bytes, the first one ends a field as well: such a record takes the long way.
    plain = rb"[^%s%s]*+" % (re.escape(dialect.quote[:1]), re.escape(dialect.delimiter[:1]))
    field = rb"(?:%s%s%s|%s)" % (quote, dialect.inside(), quote, plain)
    return re.compile(rb"%s(?:%s%s)*+" % (field, delimiter, field))


def _ends_escaped(content: bytes, escape: bytes) -> bool:
    content = content.rstrip(b"\r")
    return (len(content) - len(content.rstrip(escape))) % 2 == 1


def _stray(lines: int) -> str:
    return (
        f"a quote that opens here is not closed in its line, and {lines} lines in a row behind it are records by "
        'themselves: source.quote = "" reads quotes as text, source.resynchronise = false reads on to the next quote'
    )


class Quotes:
    """Quotes of a record, followed line by line: one open at the end of a line, and any fault."""

    def __init__(self, dialect: Dialect) -> None:
        self.delimiter, self.quote, self.spaces = dialect.delimiter, dialect.quote, dialect.skips_spaces
        self.inside = re.compile(dialect.inside()) if dialect.quote else re.compile(b"")
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
            if self.spaces:
                match = SPACES.match(line, place)
                place = match.end() if match else place
            if line.startswith(self.quote, place):
                self.open = True
                closed = self._close(line, place + len(self.quote))
                if closed is None:
                    return
                self._mark_text_behind(line, closed)
                place = closed
            end = line.find(self.delimiter, place)
            stop = len(line) if end < 0 else end
            if line.find(self.quote, place, stop) >= 0:
                self._note("a quote stands inside an unquoted field", line)
            if end < 0:
                return
            place = end + len(self.delimiter)

    def _close(self, line: bytes, place: int) -> int | None:
        """Return where the text behind the closing quote begins; None when the line ends inside quotes."""
        match = self.inside.match(line, place)
        assert match is not None
        if match.end() == len(line):
            return None
        self.open = False
        return match.end() + len(self.quote)

    def _mark_text_behind(self, line: bytes, place: int) -> None:
        if not line.startswith(self.delimiter, place) and not LINE_END.match(line, place):
            self._note("text stands behind a closing quote", line)

    def _note(self, detail: str, line: bytes) -> None:
        """Note the first fault, and the key that may cure it."""
        if self.problem is not None:
            return
        if re.search(rb"\\" + re.escape(self.quote), line):
            cure = r'quotes are escaped by backslashes if source.escape = "\\" is set'
        else:
            cure = 'quotes are part of the text if source.quote = "" is set'
        self.problem = ("misplaced_quote", f"{detail}: {cure}")

    def _after_quoted(self, line: bytes, place: int) -> None:
        self._mark_text_behind(line, place)
        end = line.find(self.delimiter, place)
        if end >= 0:
            self._fields(line, end + len(self.delimiter))
