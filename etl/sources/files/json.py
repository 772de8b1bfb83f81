"""JSON arrays and objects that follow each other, over as many lines as they like, in strict UTF-8.

A record is an object that stands in an array or by itself; white space, commas, record separators (RFC 7464) and the
byte order marks of files that were joined may separate them. A file is read once from its beginning, and no more of it
is held than the record at hand. In a record with brackets, quotes or commas out of place, reading goes on with the next
`{` that begins a line and is indented no deeper than the record; where records do not begin lines, with the next one
behind a comma or a closing bracket that has the same first key.
"""

import io
import re
from codecs import BOM_UTF8
from collections.abc import Iterator

from etl.sources.content.streams import CHUNK, MAX_RAW_BYTES, MAX_RECORD_BYTES
from etl.sources.contract import Contract
from etl.sources.files.formats import (
    FilePart,
    Found,
    Rejected,
    Skipped,
    SourceFormat,
    damaged,
    rejected,
    skipped,
)
from etl.sources.files.jsonl import parse_record
from schemas.sources import SourceSettings

STRING = rb'"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+'
"""String without its closing quote. A line break in one is no JSON, so that a missing quote shows within its line."""
INSIDE = re.compile(rb"(?:[\s,:A-Za-z0-9_+.\-]++|" + STRING + rb'"(?=\s*(?:[:,}\]]|\Z)))*+')
"""What stands between two brackets of a record."""
UNFINISHED = re.compile(STRING + rb"\\?\Z")
SIGNS = BOM_UTF8 + b"\x1e"
"""Bytes of byte order marks and record separators, which are no indentation."""
SEPARATORS = re.compile(rb"(?:[\s,\x1e]|%s)++" % BOM_UTF8)
NO_OBJECT = re.compile(rb"(?:[^\n\[\]{}\"]++|" + STRING + rb'")++|"[^\n]*+|.', re.DOTALL)
"""Values that are no objects, or anything else, to the next bracket or the end of the line."""
FIRST_KEY = re.compile(rb"\{\s*+" + STRING + rb'"\s*+:')
LONGEST_KEY = 1000
OVERLAP = 4 << 10
"""Bytes in which the beginning of a record is recognised: line break, indentation, first key."""
CLOSING = {ord("{"): ord("}"), ord("["): ord("]")}
QUOTE, BETWEEN = ord('"'), b" \t\r\n,\x1e"
BEFORE = {ord("{"): b":", ord("["): b"[,"}
"""What an opening bracket may stand behind, by the bracket around it."""


class JsonFormat(SourceFormat):
    """`format = "json"`"""

    name = "json"

    def read(
        self, part: FilePart, settings: SourceSettings, contract: Contract
    ) -> Iterator[Found | Rejected | Skipped]:
        part.start = 0
        stream, reader = part.open()
        objects = Objects(reader, contract)
        for row in objects.rows():
            if stream.damage is not None and objects.ends_within:
                yield damaged(stream, row.position, row.raw)
                break
            yield row
        else:
            if stream.damage is not None:
                yield damaged(stream, objects.position)
            elif objects.array is not None and not objects.ends_within:
                where = f"the array that begins at byte {objects.array:,}"
                detail = f"{where} is never closed: the file seems to be cut off"
                yield Rejected(objects.position, b"", "unclosed_array", detail)
        yield from skipped(byte_order_mark=objects.mark, separator=objects.separators)


class Window:
    """Part of a stream that is held: the bytes from `base` on."""

    def __init__(self, reader: io.BufferedReader) -> None:
        self.reader = reader
        self.held, self.base = b"", 0

    def more(self, keep: int) -> bool:
        """Read on, at least as much as is kept from `keep` on, which moves to 0; return False at the end."""
        kept = self.held[keep:]
        chunk = self.reader.read(max(CHUNK, len(kept)))
        self.held, self.base = kept + chunk, self.base + keep
        return bool(chunk)


class Objects:
    """Reader of the records of a file."""

    def __init__(self, reader: io.BufferedReader, contract: Contract) -> None:
        self.window = Window(reader)
        self.contract = contract
        self.place = 0
        """Of what comes next, in the window."""
        self.array: int | None = None
        """Position of the bracket that opened the array around the records."""
        self.indent: int | None = 0
        """Bytes between the last line break and `place`, where these are white space and commas alone."""
        self.first_key: bytes | None = None
        self.separators = self.mark = 0
        """Bytes between the records, and of the byte order mark."""
        self.at_end = self.ends_within = False
        """All is held that the file has; it ends within a record."""
        self._known: frozenset[int] = frozenset()
        """Positions of the brackets that were open where the last broken record broke: each would break there too."""
        self._broke: int | None = None
        """Position of that place; None for the end of the file."""

    @property
    def position(self) -> int:
        """Position in the file of what comes next."""
        return self.window.base + self.place

    def rows(self) -> Iterator[Found | Rejected]:
        """Yield the records, and what is none."""
        window = self.window
        window.more(0)
        if window.held.startswith(BOM_UTF8):
            self.mark = self.place = len(BOM_UTF8)
        while self._skip_separators():
            sign = window.held[self.place : self.place + 1]
            if sign == b"{" or (sign == b"[" and self.array is not None):
                yield self._record()
            elif sign == b"[" or (sign == b"]" and self.array is not None):
                self.array = self.position if sign == b"[" else None
                self.separators += 1
                self._pass(self.place + 1)
            else:
                yield self._other()

    def _pass(self, place: int) -> None:
        """Go on at a place that does not begin a line."""
        self.place, self.indent = place, None

    def _skip_separators(self) -> bool:
        """Skip what separates records; return False at the end of the file."""
        window = self.window
        while True:
            match = SEPARATORS.match(window.held, self.place)
            if match is not None:
                marks = len(BOM_UTF8) * match[0].count(BOM_UTF8)
                self.mark += marks
                self.separators += match.end() - self.place - marks
                lines = match[0].rfind(b"\n")
                if lines >= 0:
                    self.indent = len(match[0][lines + 1 :].lstrip(SIGNS))
                elif self.indent is not None:
                    self.indent += len(match[0].lstrip(SIGNS))
                self.place = match.end()
            if not BOM_UTF8.startswith(window.held[self.place : self.place + len(BOM_UTF8)]):
                return True
            going_on = window.more(self.place)  # at the end of what is held, or within a mark
            self.place = 0
            if not going_on:
                return bool(window.held)

    def _other(self) -> Rejected:
        """Return the row for values that are no objects, or for what is no value at all."""
        window = self.window
        while True:
            match = NO_OBJECT.match(window.held, self.place)
            assert match is not None
            if match.end() < len(window.held) and not UNFINISHED.match(window.held, self.place):
                break
            if match.end() - self.place > CHUNK or not self._more():
                break
        position, raw = self.position, match[0].rstrip(BETWEEN)
        self._pass(self.place + len(raw))
        if raw in (b"]", b"}"):
            return rejected(position, raw, "invalid_json", "not JSON: a bracket closes nothing")
        return rejected(position, raw, "not_an_object", "something else stands where an object should")

    def _more(self) -> bool:
        """Hold more of what begins at `place`; return False at the end of the file."""
        going_on = self.window.more(self.place)
        self.place = 0
        self.at_end = not going_on
        return going_on

    def _record(self) -> Found | Rejected:
        """Return the record that begins here, or the row for it, and go on behind it."""
        window, begin, indent = self.window, self.position, self.indent
        end, problem = self._end()
        if end is None:
            return self._broken(begin, indent, *problem)
        raw = window.held[self.place : end]
        self._pass(end)
        if raw.startswith(b"["):
            return rejected(begin, raw, "not_an_object", "an array stands where an object should")
        key = FIRST_KEY.match(raw, 0, LONGEST_KEY)
        self.first_key = None if key is None else key[0]
        return parse_record(begin, raw, raw, len(raw), self.contract, "record")

    def _end(self) -> tuple[int | None, tuple[str, str]]:
        """Return where the record that begins at `place` ends; None with a reason and a detail if that is unknown."""
        window = self.window
        held = window.held
        if self.position in self._known:
            return None, self._amiss()
        around = [held[self.place]]
        opened = [self.position]
        place = self.place + 1
        while around:
            match = INSIDE.match(held, place)
            assert match is not None
            end = match.end()
            if end == len(held) or (held[end] == QUOTE and UNFINISHED.match(held, end)):
                if len(held) - self.place > MAX_RECORD_BYTES:
                    return None, ("too_long", f"the record is longer than {MAX_RECORD_BYTES:,} bytes")
                place -= (
                    self.place
                )  # from the last bracket on once more: what follows a string was not known yet
                if not self._more():
                    self._known, self._broke = frozenset(opened), None
                    return None, self._amiss()
                held = window.held
                continue
            sign = held[end]
            if sign in CLOSING and self._before(end) in BEFORE[around[-1]]:
                around.append(sign)
                opened.append(window.base + end)
            elif sign == CLOSING[around[-1]]:
                around.pop()
                opened.pop()
            else:
                self._known, self._broke = frozenset(opened), window.base + end
                return None, self._amiss()
            place = end + 1
        return place, ("", "")

    def _amiss(self) -> tuple[str, str]:
        """Return the reason and detail for the record at hand, which breaks where it is known to."""
        if self._broke is None:
            return "invalid_json", "not JSON: the file ends within the record"
        place = self._broke - self.position
        return "invalid_json", f"not JSON at byte {place:,} of the record: a quote, bracket or comma is amiss"

    def _before(self, end: int) -> bytes:
        """Return the last byte of the record before `end` that is no white space."""
        size, near = 100, b""
        while not near:  # the record begins with a bracket, which is none
            near = self.window.held[max(end - size, self.place) : end].rstrip()
            size *= 10
        return near[-1:]

    def _broken(self, begin: int, indent: int | None, reason: str, detail: str) -> Rejected:
        """Return the row for a record without a known end, and go on where the next one begins."""
        window, next_record = self.window, self._beginning(indent)
        place, head = self.place + 1, None
        while (match := next_record.search(window.held, place)) is None and not self.at_end:
            place = max(len(window.held) - OVERLAP, place)
            if head is None and len(window.held) - self.place > MAX_RAW_BYTES:
                head = window.held[self.place : self.place + MAX_RAW_BYTES]
            if head is not None:  # no more than that is kept
                self.place = place
            place -= self.place
            self._more()
        self.ends_within = match is None
        end = len(window.held) if match is None else match.start(1)
        raw, size = (
            (window.held[self.place : end], None) if head is None else (head, window.base + end - begin)
        )
        if size is None:
            whole, raw = len(raw), raw.rstrip(BETWEEN)
            self.separators += whole - len(raw)
        self._pass(end)
        if match is not None and indent is not None:
            self.indent = len(window.held[match.start() + 1 : end].lstrip(SIGNS))
        return rejected(begin, raw, reason, detail, size)

    def _beginning(self, indent: int | None) -> re.Pattern[bytes]:
        """Return the pattern of the beginning of the next record, as group 1, behind a broken one."""
        if indent is not None:
            return re.compile(rb"\n[%s]{0,9}[ \t,]{0,%d}(\{)" % (SIGNS, min(indent, OVERLAP // 2)))
        key = FIRST_KEY.match(self.window.held, self.place, self.place + LONGEST_KEY)
        first = self.first_key if key is None else key[0]
        return re.compile(
            rb"[,}\]][\s,\x1e]{0,200}(" + (rb"\{" if first is None else re.escape(first)) + rb")"
        )


FORMAT = JsonFormat()
