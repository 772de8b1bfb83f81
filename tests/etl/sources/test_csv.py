"""CSV: quotes, line breaks, positions, wrong records."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.sources.content.streams import read_lines
from etl.sources.contract import UntypedText
from etl.sources.csv_dialect import Dialect
from etl.sources.files.csv_records import Records
from etl.sources.files.formats import Found, Rejected
from tests.etl.sources.source_files import configuration, read_rows, reader_of, reasons

HEADER = b"id,label,text\n"
PLAIN = Dialect(b",", b'"', b"", b"", False, False)


def read(tmp_path: Path, content: bytes, **settings: object) -> list[Found | Rejected]:
    file = tmp_path / "a.csv"
    file.write_bytes(content)
    return read_rows(configuration(tmp_path, [{"format": "csv", "path": str(file), **settings}]), file)


def test_records_are_found_with_their_bytes_and_positions(tmp_path: Path) -> None:
    rows = read(tmp_path, b'\xef\xbb\xbfid,label,text\r\na,x,"one, ""two""\nthree"\r\n\r\nb,y,\xc3\xa9')
    assert rows == [
        Found(18, 25, b'a,x,"one, ""two""\nthree"\r', {"id": "a", "label": "x", "text": 'one, "two"\nthree'}),
        Found(46, 6, b"b,y,\xc3\xa9", {"id": "b", "label": "y", "text": "é"}),
    ]
    assert all(
        type(value) is UntypedText for row in rows if isinstance(row, Found) for value in row.values.values()
    )


def test_delimiter_quote_and_header_can_be_configured(tmp_path: Path) -> None:
    rows = read(tmp_path, b"a;x;'t;''u'\n", delimiter=";", quote="'", header=["id", "label", "text"])
    assert rows == [Found(0, 11, b"a;x;'t;''u'", {"id": "a", "label": "x", "text": "t;'u"})]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"a,x", "wrong_field_count"),
        (b"a,x,t,more", "wrong_field_count"),
        (b'a,x,5" disk', "misplaced_quote"),
        (b'a,x,"t"u', "misplaced_quote"),
        (b'a,x,"t\nu"v', "misplaced_quote"),
        (b"a,x,\xff", "invalid_utf8"),
        (b"a,x,b\rc", "invalid_csv"),
    ],
)
def test_a_wrong_record_is_rejected_alone(tmp_path: Path, record: bytes, reason: str) -> None:
    rows = read(tmp_path, HEADER + record + b"\nb,y,u\n")
    assert reasons(rows) == [reason, None]
    assert (rows[0].position, rows[0].raw) == (len(HEADER), record)


def test_an_unclosed_quote_takes_the_rest_of_the_file(tmp_path: Path) -> None:
    rows = read(tmp_path, HEADER + b'a,x,t\nb,y,"u\nc,z,v\n')
    assert reasons(rows) == [None, "unclosed_quote"]
    assert rows[1].raw == b'b,y,"u\nc,z,v'


@pytest.mark.parametrize("header", [b"id,text,text,label", b"\xff,a", b'id,"text'])
def test_a_header_that_cannot_be_used_rejects_each_record(tmp_path: Path, header: bytes) -> None:
    rows = read(tmp_path, header + b"\na,b,c,d\ne,f,g,h\n")
    expected = ["unclosed_quote"] if header.endswith(b'"text') else ["invalid_header", "invalid_header"]
    assert reasons(rows) == expected


FIELD = st.text(st.sampled_from('a",\n é;'), max_size=6)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(FIELD, min_size=2, max_size=4), max_size=8))
def test_what_the_csv_module_writes_is_split_at_its_records(table: list[list[str]]) -> None:
    written = [io.StringIO() for _ in table]
    for row, target in zip(table, written, strict=True):
        csv.writer(target, lineterminator="\n").writerow(row)
    expected = [target.getvalue()[:-1].encode() for target in written]
    content = b"\n".join(expected)
    records = list(Records(read_lines(reader_of(content), 0, None), PLAIN))
    # Rows of empty fields are no records.
    assert [record.line.content for record in records] == [line for line in expected if line.strip(b",")]
    assert [record.problem for record in records] == [None] * len(records)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from('a",\n\r'), max_size=60).map(str.encode), st.integers(1, 20))
def test_any_bytes_are_covered_once_within_the_limit(content: bytes, limit: int) -> None:
    found = Records(read_lines(reader_of(content), 0, None, limit), PLAIN, limit=limit)
    end = covered = 0
    for record in found:
        line = record.line
        assert line.position >= end
        assert len(line.content) <= limit + 1
        end = line.position + line.size + line.ended
        covered += line.size
    assert covered + found.skipped.total() == len(content)
    assert end <= found.position == len(content)
