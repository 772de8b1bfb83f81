"""JSON lines: one object of RFC 8259 a line, in strict UTF-8.

An LF ends a line. A CR before it, white space around the object, and byte order marks and the record separators of RFC
7464 at its beginning are tolerated; blank lines are no records. Keys that are not configured are only checked for
grammar. A file that begins as an array, with an array of objects a line, or with an object over several lines, is read
as `format = "json"` instead.
"""

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import NoReturn, cast

from etl.sources.content.streams import CHUNK, MAX_RECORD_BYTES, Line, read_lines
from etl.sources.contract import Contract, NotScalar, Number, Truth, WithNames
from etl.sources.files.formats import (
    PIECE_BYTES,
    FilePart,
    Found,
    Rejected,
    Skipped,
    SourceFormat,
    damaged,
    decode,
    formats,
    rejected,
    skipped,
)
from etl.sources.paths import MISSING, Repeated, look_up, nested_names
from schemas.sources import SourceSettings

WHITE_SPACE = b" \t\r"
RECORD_SEPARATOR = b"\x1e"
BEFORE_FIRST = b" \t\n\r\v\f" + RECORD_SEPARATOR
SIGNS = frozenset({BOM_UTF8[0], RECORD_SEPARATOR[0]})
BEFORE_RECORD = re.compile(rb"(?:%s|%s)*+" % (BOM_UTF8, RECORD_SEPARATOR))
LONG_LINE = 8 << 20
MAX_VALUES = 1_000_000
"""Values of a line longer than LONG_LINE: each takes a Python object of some hundred bytes before any is checked."""
# Matches wherever a string begins, also one without an end: a failed match is retried from every quotation mark on.
STRING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
MAX_DEPTH = 400
"""Depth of arrays and objects that is refused, well below Python's own limit, which depends on the caller."""


class JsonLinesFormat(SourceFormat):
    """`format = "jsonl"`"""

    name = "jsonl"
    piece_bytes = PIECE_BYTES

    def read(
        self, part: FilePart, settings: SourceSettings, contract: Contract
    ) -> Iterator[Found | Rejected | Skipped]:
        stream, reader = part.open()
        beginning = reader.peek(CHUNK) if part.start == 0 else part.beginning()
        if is_laid_out(beginning):
            part.close()
            if part.start == 0:
                yield from formats()["json"].read(part, settings, contract)
            return
        ends = blank = marks = separators = 0
        # A file that cannot be opened is damaged from its beginning on, whichever piece finds that out.
        position = part.start if stream.damage is None else 0
        for line in read_lines(reader, part.start, part.end):
            if stream.damage is not None and not line.ended:
                yield damaged(stream, line.position, line.content)
                break
            position = line.position + line.size + line.ended
            ends += line.ended
            if line.content and line.content[0] in SIGNS:
                line, signs = behind_signs(line)
                separators += signs.count(RECORD_SEPARATOR)
                marks += len(signs) - signs.count(RECORD_SEPARATOR)
            row = parse_line(line, contract)
            if row is not None:
                yield row
            else:
                blank += line.size
                if line.content.startswith(BOM_UTF8):
                    marks, blank = marks + len(BOM_UTF8), blank - len(BOM_UTF8)
        else:
            if stream.damage is not None:
                yield damaged(stream, position)
        yield from skipped(
            byte_order_mark=marks, record_separator=separators, line_end=ends, blank_line=blank
        )


def behind_signs(line: Line) -> tuple[Line, bytes]:
    """Return a line behind the byte order marks and record separators at its beginning, and these.

    A mark alone at the beginning of the file remains, so that the record begins where the file does.
    """
    match = BEFORE_RECORD.match(line.content)
    assert match is not None
    signs = match[0]
    if line.position == 0 and signs == BOM_UTF8:
        return line, b""
    content = line.content[len(signs) :]
    return Line(line.position + len(signs), content, line.size - len(signs), line.ended), signs


def is_laid_out(beginning: bytes) -> bool:
    """Return True where the beginning of a file shows that its records are no lines, but as `format = "json"` has them.

    Its first line begins an array, and is not a whole array that other lines follow, unless it is one of objects before
    another array; or it begins an object that goes on in the next line, behind a bracket, comma or colon.
    """
    first, line_break, following = beginning.removeprefix(BOM_UTF8).lstrip(BEFORE_FIRST).partition(b"\n")
    if first.startswith(b"["):
        value = _value(first) if line_break and following.strip() else None
        if isinstance(value, list) and following.lstrip(BEFORE_FIRST + BOM_UTF8).startswith(b"["):
            return all(isinstance(item, tuple) for item in value)
        return value is None
    return bool(line_break) and first.startswith(b"{") and first.rstrip().endswith((b"{", b"[", b",", b":"))


def _value(content: bytes) -> object:
    """Return the value of what is JSON, None for what is not."""
    try:
        return cast(object, _DECODER.decode(content.decode()))
    except (ValueError, RecursionError):  # also of bytes that are not UTF-8
        return None


def parse_line(line: Line, contract: Contract | None = None) -> Found | Rejected | None:
    """Return the record of a line; None for a blank one."""
    content = line.content
    if line.position == 0:
        content = content.removeprefix(BOM_UTF8)
    content = content.strip(WHITE_SPACE)
    if not content:
        return None
    return parse_record(line.position, line.content, content, line.size, contract)


def parse_record(
    position: int, raw: bytes, content: bytes, size: int, contract: Contract | None = None, what: str = "line"
) -> Found | Rejected:
    """Return the record of one object; `content` is `raw` without what surrounds the object, if `size` bytes long."""
    if size > MAX_RECORD_BYTES:
        detail = f"the {what} is longer than {MAX_RECORD_BYTES:,} bytes"
        if what == "line":
            detail += '; format = "json" reads files that have no lines'
        return rejected(position, raw, "too_long", detail, size)
    if size > LONG_LINE and STRING.sub(b"", content).count(b",") > MAX_VALUES:
        detail = f"the {what} has more than {MAX_VALUES:,} values"
        return rejected(position, raw, "too_many_values", detail, size)
    text = decode(content, position)
    if isinstance(text, Rejected):
        return rejected(position, raw, text.reason, text.detail)
    parsed = parse_object(text, contract)
    if isinstance(parsed, dict):
        return Found(position, size, raw, parsed)
    return rejected(position, raw, *parsed)


def parse_object(text: str, contract: Contract | None = None) -> dict[str, object] | tuple[str, str]:
    """Return the values of one JSON object by key, or the reason and detail of its rejection.

    Strings are `str`, numbers `Number` as written, null None, anything else `NotScalar`. Columns that the contract
    names by a path are added under this name, unless it is that of a key.
    """
    try:
        value = _decoded(text)
    except json.JSONDecodeError as error:
        several = '; format = "json" reads several objects in a line' if error.msg == "Extra data" else ""
        return "invalid_json", f"not JSON at character {error.pos:,}: {_grammar(error)}{several}"
    except _Constant:
        return "invalid_json", "not JSON: NaN and Infinity are no numbers of RFC 8259"
    except RecursionError:
        return "too_deep", f"nested deeper than {MAX_DEPTH} levels"
    if not isinstance(value, tuple):
        arrays = '; format = "json" reads arrays of objects' if isinstance(value, list) else ""
        return "not_an_object", f"the line is JSON but not an object{arrays}"
    parsed: dict[str, object] = dict(value)
    if len(parsed) < len(value) or not _SCALARS.issuperset(map(type, parsed.values())):
        if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
            return "too_deep", f"nested deeper than {MAX_DEPTH} levels"
        pairs = value
        parsed = WithNames({key: _scalar(item) for key, item in pairs}, lambda: nested_names(dict(pairs)))
    if len(parsed) < len(value):
        return "duplicate_key", "a key stands in the object more than once"
    if contract is None or not contract.paths:
        return parsed
    for name, path in contract.paths.items():
        if name in parsed:
            continue
        try:
            found = look_up(value, path)
        except Repeated:
            return "duplicate_key", f"a key of {name!r} stands in its object more than once"
        if found is not MISSING:
            parsed[name] = _scalar(found)
    return parsed


class _Constant(ValueError):
    """NaN, Infinity or -Infinity, which Python's parser accepts as numbers."""


def _refuse_constant(_: str) -> NoReturn:
    raise _Constant


# An object becomes the tuple of its pairs (arrays are lists), so that repeated keys show; numbers stay text, so that
# they are stored verbatim and their length costs nothing.
_DECODER = json.JSONDecoder(
    object_pairs_hook=tuple, parse_int=Number, parse_float=Number, parse_constant=_refuse_constant
)


_SCALARS = frozenset({str, Number, type(None)})


def _decoded(text: str) -> object:
    """Decode like `_DECODER.decode`, without its search for white space where there is none."""
    try:
        value, end = _DECODER.scan_once(text, 0)  # type: ignore[attr-defined]
    except StopIteration:
        end = -1
    return value if end == len(text) else _DECODER.decode(text)


def _grammar(error: json.JSONDecodeError) -> str:
    """Return the parser's message, which names what it expected and never the content."""
    return error.msg[:1].lower() + error.msg[1:].removesuffix(" at").removesuffix(" starting at")


def _scalar(value: object) -> object:
    if isinstance(value, bool):
        return Truth("true" if value else "false")
    return value if value is None or isinstance(value, str) else NotScalar()


def _depth(value: object) -> int:
    """Return the nesting depth of arrays and objects, without recursion."""
    depth, level = 0, [value]
    while level:
        depth += 1
        inner: list[object] = []
        for item in level:
            if isinstance(item, tuple):  # the pairs of an object
                inner.extend(v for _, v in item if isinstance(v, (tuple, list)))
            elif isinstance(item, list):
                inner.extend(v for v in item if isinstance(v, (tuple, list)))
        level = inner
    return depth


FORMAT = JsonLinesFormat()
