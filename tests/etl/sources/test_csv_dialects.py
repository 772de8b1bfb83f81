"""CSV as programs write it: line ends, signs, header lines, and quotes that are none."""

import gzip
from pathlib import Path

import pytest

from etl.sources.content.streams import Line
from etl.sources.csv_dialect import Dialect
from etl.sources.files.csv_records import Quotes, Records
from etl.sources.files.formats import Found, Rejected
from etl.sources.files.pieces import list_pieces
from etl.sources.reading import FILE, RECORD, Reader
from tests.etl.sources.source_files import configuration, read_rows, reasons

HEADER = b"id,label,text\n"


def read(tmp_path: Path, content: bytes, **settings: object) -> list[Found | Rejected]:
    file = tmp_path / "a.csv"
    file.write_bytes(content)
    return read_rows(configuration(tmp_path, [{"format": "csv", "path": str(file), **settings}]), file)


def texts(rows: list[Found | Rejected]) -> list[object]:
    """Return the text of each record, the reason of each that is none."""
    return [row.values.get("text") if isinstance(row, Found) else row.reason for row in rows]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b"\r\r\n"])
def test_lines_end_as_the_file_ends_them(tmp_path: Path, end: bytes) -> None:
    rows = read(tmp_path, end.join([b"id,label,text", b"a,x,one", b"b,y,two", b""]))
    assert texts(rows) == ["one", "two"]
    assert [row.position for row in rows] == [13 + len(end), 20 + 2 * len(end)]


@pytest.mark.parametrize("settings", [{}, {"escape": "\\"}], ids=str)
def test_two_crs_before_a_line_feed_end_a_line_behind_quotes_too(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    content = b'id,label,text\r\r\na,x,"one ""1"""\r\r\nb,y,"two\r\nlines"\r\r\n"c",z,"d"\r\r\n'
    assert texts(read(tmp_path, content, **settings)) == ['one "1"', "two\r\nlines", "d"]
    assert texts(read(tmp_path, HEADER + b'a,x,"b"\r\rc\r\nb,y,two\n', **settings)) == [
        "misplaced_quote",
        "two",
    ]
    assert texts(read(tmp_path, b'"sep=;"\r\r\nid;label;text\r\r\na;x;"one"\r\r\n', **settings)) == ["one"]


def test_cells_of_a_macintosh_have_line_feeds(tmp_path: Path) -> None:
    rows = read(tmp_path, b'id,label,text\ra,x,"1\n2\n3"\rb,y,"4\n5\n6"\r')
    assert texts(rows) == ["1\n2\n3", "4\n5\n6"]
    assert texts(read(tmp_path, b"id,label,text\ra,x,one\r", line_end="lf")) == ["invalid_csv"]
    assert texts(read(tmp_path, b"id,label,text\na,x,one\rb,y,two\n", line_end="auto")) == ["invalid_csv"]
    assert texts(read(tmp_path, b"id,label,text\na,x,one\rb,y,two\n", line_end="cr")) == ["one", "two"]


def swallowing(columns: int, lines: int, closing: bytes = b"") -> bytes:
    """Return a file whose first record opens a quote that is closed, if at all, behind that many lines."""
    more = b",m" * (columns - 3)
    rows = b"".join(b"r%d,x,word%s\n" % (number, more) for number in range(lines))
    if columns == 2:
        rows = rows.replace(b",x", b"")
    header, first = HEADER.replace(b"\n", b",more" * (columns - 3) + b"\n"), b'a,x,"stray'
    if columns == 2:
        header, first = b"id,text\n", b'a,"stray'
    return header + first + more + b"\n" + rows + closing


@pytest.mark.parametrize("closing", [b"", b'z,x,27"\n', b'z,x,27" wide\n'])
@pytest.mark.parametrize(("lines", "kept"), [(9, 0), (10, 10), (300, 300)])
def test_behind_a_stray_quote_the_lines_are_read_where_many_are_records(
    tmp_path: Path, lines: int, kept: int, closing: bytes
) -> None:
    rows = read(tmp_path, swallowing(3, lines, closing))
    if kept:
        assert reasons(rows) == ["unclosed_quote", *[None] * kept, *["misplaced_quote"] * bool(closing)]
        assert rows[0].raw == b'a,x,"stray'
        assert "10 lines in a row" in rows[0].detail  # type: ignore[union-attr]
    else:
        assert len(rows) == 1
    everything = read(tmp_path, swallowing(3, lines, closing), resynchronise=False)
    assert len(everything) == 1


def test_lines_that_are_no_records_belong_to_the_quoted_field(tmp_path: Path) -> None:
    prose = b"".join(b"one, two and three\n" if n % 10 else b"one, two, three\n" for n in range(500))
    (row,) = read(tmp_path, HEADER + b'a,x,"' + prose + b'"\n')
    assert isinstance(row, Found)
    assert row.values["text"] == prose.decode()


@pytest.mark.parametrize(("lines", "records"), [(49, 0), (50, 50)])
def test_two_columns_need_more_lines_for_it(tmp_path: Path, lines: int, records: int) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(swallowing(2, lines))
    config = configuration(tmp_path, [{"format": "csv", "path": str(file)}], {"id": "id"})
    assert reasons(read_rows(config, file)) == ["unclosed_quote", *[None] * records]


def test_excel_names_its_delimiter_in_a_line(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbfsep=;\r\nid;label;text\r\na;x;"one; ""two"""\r\n;;\r\nb;y;three\r\n'
    assert texts(read(tmp_path, content)) == ['one; "two"', "three"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_delimiter_is_found_by_the_configured_columns(tmp_path: Path, delimiter: str) -> None:
    content = 'id,label,text,"more;a|b\tc"\na,x,one,2\n'.replace(",", delimiter).encode()
    assert texts(read(tmp_path, content, delimiter="auto")) == ["one"]
    of_rows = "a,x,one; two\nb,y,three|four\n".replace(",", delimiter).encode()
    expected = ["one; two", "three|four"]
    if delimiter in ",\t":
        named = {"delimiter": "auto", "header": ["id", "label", "text"]}
        assert texts(read(tmp_path, of_rows, **named)) == expected


def test_spaces_around_names_and_behind_every_delimiter_do_not_count(tmp_path: Path) -> None:
    assert texts(read(tmp_path, b'id, label, text\na, x, "one, two"\nb,y, three\n')) == ["one, two", "three"]
    assert texts(read(tmp_path, b"id ,label\t, text\na,x, one\n")) == [" one"]


def test_a_delimiter_at_the_end_of_records_or_header_is_none(tmp_path: Path) -> None:
    assert texts(read(tmp_path, HEADER + b"a,x,one,\nb,y,two\nc,z,three,more\n")) == [
        "one",
        "two",
        "wrong_field_count",
    ]
    assert texts(read(tmp_path, b"id,label,text,\na,x,one\nb,y,two,\n")) == ["one", "two"]


def test_comments_blank_lines_and_the_mark_of_the_end_are_no_records(tmp_path: Path) -> None:
    content = b'# made by hand\n\nid,label,text\n#a,x,one\nb,y,"two\n# three"\n\x1a'
    assert texts(read(tmp_path, content, comment="#")) == ["two\n# three"]


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (rb'a,x,"he said \"hi\", and left"', 'he said "hi", and left'),
        (rb'a,x,"ends with a quote\""', 'ends with a quote"'),
        (rb'a,x,"ends with a backslash\\"', "ends with a backslash\\"),
        (rb'a,x,"C:\new\\old"', r"C:\new\old"),
        (rb"a,x,C:\new\\old", r"C:\new\\old"),
        (rb'a,x,"one, \\\"two\\\"\\"', r"one, \"two\"" + "\\"),
        (rb'a,x,"both ""kinds"" \"of\" it"', 'both "kinds" "of" it'),
        (b'a,x,"two\n\\"lines\\""', 'two\n"lines"'),
        (rb"a,x,no\quotes", r"no\quotes"),
    ],
)
def test_quotes_may_be_escaped(tmp_path: Path, record: bytes, text: str) -> None:
    rows = read(tmp_path, HEADER + record + b"\nb,y,next\n", escape="\\")
    assert texts(rows) == [text, "next"]
    assert rows[0].raw == record


def test_quotes_of_several_bytes_are_signs_like_others(tmp_path: Path) -> None:
    content = "id§label§text\na§x§“one ““two““ ’§ three“\nb§y§four’\n".encode()
    assert texts(read(tmp_path, content, delimiter="§", quote="“")) == ["one “two“ ’§ three", "four’"]
    assert texts(read(tmp_path, content, delimiter="§", quote="“", escape="\\")) == [
        "one “two“ ’§ three",
        "four’",
    ]


def test_without_quotes_they_are_text(tmp_path: Path) -> None:
    content = HEADER + b'a,x,27" screen\nb,"y",""\n'
    assert texts(read(tmp_path, content, quote="")) == ['27" screen', '""']
    content = HEADER + b"a,x,one\\, two \\\\ C:\\new\nb,y,three\\\nfour\nc,z,five\n"
    rows = read(tmp_path, content, quote="", escape="\\")
    assert texts(rows) == ["one, two \\ C:\\new", "three\nfour", "five"]


@pytest.mark.parametrize(
    ("record", "key"),
    [
        (rb'a,x,"he \"said\" it"', r'source.escape = "\\"'),
        (b'a,x,27" screen', 'source.quote = ""'),
        (b"a,x,b\rc", 'source.line_end = "cr"'),
    ],
)
def test_a_refusal_names_the_key_that_cures_it(tmp_path: Path, record: bytes, key: str) -> None:
    (row,) = read(tmp_path, HEADER + record + b"\n")
    assert isinstance(row, Rejected)
    assert key in row.detail


def test_a_header_that_cannot_be_used_is_told_where_nothing_follows(tmp_path: Path) -> None:
    assert texts(read(tmp_path, b'id,label,te"xt,a,x,one')) == ["misplaced_quote"]
    assert texts(read(tmp_path, b'id,label,te"xt\na,x,one\n')) == ["invalid_header"]


@pytest.mark.parametrize(
    ("line_end", "expected"), [("auto", ["invalid_csv"] + ["invalid_header"] * 2), ("cr", list("abc"))]
)
def test_a_record_behind_a_cr_in_the_header_is_not_lost(
    tmp_path: Path, line_end: str, expected: list[str]
) -> None:
    rows = read(tmp_path, b"id,label,text\r1,x,a\n2,y,b\n3,z,c\n", line_end=line_end)
    assert texts(rows) == expected
    assert line_end == "cr" or rows[0].raw == b"id,label,text\r1,x,a"


@pytest.mark.parametrize("more", [b"", b"2,y,b\n"])
def test_a_first_line_without_any_configured_column_may_be_a_record(tmp_path: Path, more: bytes) -> None:
    rows = read(tmp_path, b"#id,label,text\n1,x,a\n" + more, comment="#")
    assert reasons(rows[:1]) == ["invalid_header"]
    assert (rows[0].position, rows[0].raw) == (15, b"1,x,a")
    assert len(rows) == 1 + bool(more)  # what follows lacks its columns


def test_columns_that_folders_name_need_not_stand_in_the_header(tmp_path: Path) -> None:
    file = tmp_path / "label=x" / "text=t" / "a.csv"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"other\n1\n")
    config = configuration(tmp_path, [{"format": "csv", "path": f"{tmp_path}/*/*/*.csv"}], {"label": "label"})
    found = [row for batch in Reader(config).batches(0, list_pieces(config)) for row in batch.to_pylist()]
    assert [row["kind"] for row in found] == [RECORD, FILE]


def test_line_ends_are_told_by_more_than_the_first_member_of_a_compressed_file(tmp_path: Path) -> None:
    content = gzip.compress(b"id,label,text\r") + gzip.compress(b"a,x,one\rb,y,two\r")
    assert texts(read(tmp_path, content)) == ["one", "two"]


def test_a_text_is_not_taken_for_a_binary_format_by_its_first_column(tmp_path: Path) -> None:
    content = "ORCID,id,label,text\n1,a,x,café\n".encode("cp1252")
    assert texts(read(tmp_path, content, encoding="cp1252")) == ["café"]


def test_lines_behind_many_stray_quotes_are_followed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = []
    go_on = Quotes.go_on

    def counted(quotes: Quotes, line: bytes) -> None:
        followed.append(line)
        go_on(quotes, line)

    monkeypatch.setattr(Quotes, "go_on", counted)
    rows = read(tmp_path, HEADER + b'a"b,"x,one\n' * 100 + b"c,y,two\n" * 20)
    assert texts(rows) == ["unclosed_quote"] * 100 + ["two"] * 20
    assert len(followed) == 109  # the 99 behind the first one, and the 10 that show that it is stray


def test_of_a_swallowed_file_only_the_beginning_is_held() -> None:
    lines = [Line(10 * n, b'"aaaaaaaa' if n == 0 else b"aaaaaaaaa", 9, True) for n in range(1000)]
    dialect = Dialect(b",", b'"', b"", b"", False, False)
    (record,) = Records(iter(lines), dialect, limit=95)
    assert record.problem is not None
    assert record.problem[0] == "unclosed_quote"
    assert (record.lines, record.line.size, record.line.ended) == (1000, 9999, True)
    assert len(record.line.content) <= 96
    assert record.line.content.startswith(b'"aaaaaaaa\naaaaaaaaa\n')
