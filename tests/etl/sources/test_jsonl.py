"""JSON lines: the grammar, positions, byte ranges, damage."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.sources.content.streams import Line
from etl.sources.contract import Contract
from etl.sources.files.formats import FilePart, Found, Rejected, Skipped, formats
from etl.sources.files.jsonl import MAX_DEPTH, is_laid_out, parse_line, parse_object
from tests.etl.sources.source_files import configuration, read_rows, reasons

GOOD: dict[bytes, set[str]] = {
    b'{"id": "a", "label": "x", "text": "t"}': {"id", "label", "text"},
    b' \t{"text":"\\u00e9\\ud83d\\ude00","extra":[1,{"a":null}],"n":' + b"9" * 5000 + b"}\r": {
        "text",
        "extra",
        "n",
    },
    b'{"a":1e999,"b":-0.5E+3,"c":true}': {"a", "b", "c"},
    b"{}": set(),
    b'{"a":\r1}': {"a"},  # a CR between the parts of an object is white space
    b'{"extra": ' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}": {"extra"},
    b'{"extra": {"twice": 1, "twice": 2}}': {
        "extra"
    },  # columns that are not configured only have to obey the grammar
}
BAD = {
    b'{"a": NaN}': "invalid_json",
    b'{"a": Infinity}': "invalid_json",
    b'{"a": -Infinity}': "invalid_json",
    b'{"a": 1} {"a": 2}': "invalid_json",
    b'{"a": 1}\r{"a": 2}': "invalid_json",
    b'{"a": 1} x': "invalid_json",
    b"{'a': 1}": "invalid_json",
    b'{"a": 01}': "invalid_json",
    b'{"a": 1.}': "invalid_json",
    b'{"a": +1}': "invalid_json",
    b'{"a": 1,}': "invalid_json",
    b'{"a": "\t"}': "invalid_json",
    b'{"a": "\\x41"}': "invalid_json",
    b'{"a": "\\u12g4"}': "invalid_json",
    b'{"a": "b': "invalid_json",
    b"{a: 1}": "invalid_json",
    b'{"a": 1 /* c */}': "invalid_json",
    b'\x0b{"a": 1}': "invalid_json",
    b'\xc2\xa0{"a": 1}': "invalid_json",
    b'[{"a": 1}]': "not_an_object",
    b'"a"': "not_an_object",
    b"null": "not_an_object",
    b"7": "not_an_object",
    b'{"a": 1, "a": 1}': "duplicate_key",
    b'{"a": 1, "\\u0061": 1}': "duplicate_key",
    b'{"a": "\xff"}': "invalid_utf8",
    b'{"a": "\xed\xa0\x80"}': "invalid_utf8",  # half of a surrogate pair as bytes
    b'{"a": "\xc0\x80"}': "invalid_utf8",  # overlong
    b'{"extra": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}": "too_deep",
    b'{"extra": ' + b"[" * 200_000: "too_deep",
    b'{"a":' + b"[" * 401 + b"]" * 401 + b',"a":"x"}': "too_deep",
    b'{"a":[1],"a":"x"}': "duplicate_key",
    b"\x00": "invalid_json",
}


def line(content: bytes, position: int = 10) -> Line:
    return Line(position, content, len(content), True)


@pytest.mark.parametrize(("content", "keys"), GOOD.items(), ids=range(len(GOOD)))
def test_what_the_standard_allows_is_found(content: bytes, keys: set[str]) -> None:
    row = parse_line(line(content))
    assert isinstance(row, Found)
    assert (row.position, row.length, row.raw, set(row.values)) == (10, len(content), content, keys)


@pytest.mark.parametrize(("content", "reason"), BAD.items(), ids=range(len(BAD)))
def test_what_it_does_not_allow_is_rejected_with_its_bytes(content: bytes, reason: str) -> None:
    row = parse_line(line(content))
    assert isinstance(row, Rejected)
    assert (row.reason, row.position, row.raw) == (reason, 10, content)


def test_values_keep_their_types_and_numbers_their_writing() -> None:
    parsed = parse_object('{"s": "é", "n": null, "i": 1.50, "x": 1}')
    assert isinstance(parsed, dict)
    assert {
        key: (type(value).__name__, value if isinstance(value, str) else None)
        for key, value in parsed.items()
    } == {
        "s": ("str", "é"),
        "n": ("NoneType", None),
        "i": ("Number", "1.50"),
        "x": ("Number", "1"),
    }


def test_a_detail_never_repeats_the_content() -> None:
    row = parse_line(line(b'{"password": hunter2}'))
    assert isinstance(row, Rejected)
    assert "hunter" not in row.detail
    assert "password" not in row.detail


def test_blank_lines_and_a_mark_at_the_beginning_are_no_records(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a":"1"}\r\n\r\n  \t\n{"a":"2"}\n \xef\xbb\xbf{"a":"3"}')
    config = configuration(tmp_path, [{"format": "jsonl", "path": str(file)}])
    rows = read_rows(config, file)
    assert rows[:2] == [
        Found(0, 13, b'\xef\xbb\xbf{"a":"1"}\r', {"a": "1"}),
        Found(20, 9, b'{"a":"2"}', {"a": "2"}),
    ]
    assert reasons(rows) == [None, None, "invalid_json"]  # a mark anywhere else is not white space


@pytest.mark.parametrize("sign", [b"\xef\xbb\xbf", b"\x1e", b"\xef\xbb\xbf\x1e"])
def test_marks_of_joined_files_and_record_separators_are_skipped(tmp_path: Path, sign: bytes) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"a":"1"}\n' + sign + b'{"a":"2"}\n' + sign + b"\n" + sign * 2 + b' {"a":"3"}')
    config = configuration(tmp_path, [{"format": "jsonl", "path": str(file)}])
    size = len(sign)
    assert read_rows(config, file) == [
        Found(0, 9, b'{"a":"1"}', {"a": "1"}),
        Found(10 + size, 9, b'{"a":"2"}', {"a": "2"}),
        Found(21 + 4 * size, 10, b' {"a":"3"}', {"a": "3"}),
    ]
    settings = config.source[0]
    read = formats()["jsonl"].read(FilePart(str(file), None), settings, Contract(config))
    marks, separators = 4 * len(sign.rstrip(b"\x1e")), 4 * sign.count(b"\x1e")
    skipped = {row.rule: row.size for row in read if isinstance(row, Skipped)}
    expected = {"byte_order_mark": marks, "record_separator": separators, "line_end": 3}
    assert skipped == {rule: size for rule, size in expected.items() if size}


PIECES = st.sampled_from(
    [b"\n", b"\r\n", b'{"a":"b"}', b"{", b" ", b"\xff", b"x" * 40, b'{"c":"d"}\n', b"\xef\xbb\xbf", b"\x1e"]
)


@settings(max_examples=150, deadline=None)
@given(
    content=st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=30).map(b"".join)),
    cuts=st.lists(st.integers(0, 250), max_size=5),
)
def test_byte_ranges_give_every_line_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, cuts: list[int]
) -> None:
    file = tmp_path_factory.mktemp("ranges") / "a.jsonl"
    file.write_bytes(content)
    config = configuration(file.parent, [{"format": "jsonl", "path": str(file)}])
    whole = read_rows(config, file)
    bounds = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    ranges = list(pairwise(bounds)) or [(0, 0)]
    assert [row for start, end in ranges for row in read_rows(config, file, start, end)] == whole
    lines = [re.sub(rb"\A(?:\xef\xbb\xbf|\x1e)+", b"", one) for one in content.split(b"\n")]
    assert is_laid_out(content) or len(whole) == sum(bool(one.strip(b" \t\r")) for one in lines)
    assert all(content[row.position : row.position + len(row.raw)] == row.raw for row in whole)


@pytest.mark.parametrize("end", [b"]}", b'"', b"\\", b'\\"' * 500_000, b""])
def test_a_long_line_of_very_many_values_is_not_decoded(monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    """Regardless of what follows them, and in time that grows no faster than the line."""
    monkeypatch.setattr("etl.sources.files.jsonl.LONG_LINE", 1 << 20)
    monkeypatch.setattr("etl.sources.files.jsonl.MAX_VALUES", 300_000)
    monkeypatch.setattr("etl.sources.files.jsonl.decode", lambda *_: pytest.fail("it was decoded"))
    found = parse_line(line(b'{"text": "a", "more": [' + b"1, " * 400_000 + b'"' + end))
    assert isinstance(found, Rejected)
    assert (found.reason, found.detail) == ("too_many_values", "the line has more than 300,000 values")


def test_commas_of_a_long_text_are_no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.sources.files.jsonl.LONG_LINE", 1 << 20)
    monkeypatch.setattr("etl.sources.files.jsonl.MAX_VALUES", 10)
    found = parse_line(line(b'{"text": "' + b'a, \\"b\\", ' * 200_000 + b'", "label": "x"}'))
    assert isinstance(found, Found)
