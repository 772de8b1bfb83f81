"""Logs of Zeek: typed values, escapes, missing and empty ones, headers that change, damaged lines."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from etl.sources.contract import Number, Truth, UntypedText
from etl.sources.files.formats import Found, Rejected
from etl.sources.files.pieces import list_pieces
from etl.sources.files.zeek import unescaped
from etl.sources.reading import QUARANTINE, Reader
from etl.sources.rejects import PLACE, export
from tests.etl.sources.source_files import configuration, read_rows, reasons

HEADER = (
    b"#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n"
    b"#open\t2024-05-01-00-00-00\n#fields\tid\tlabel\ttext\tn\tflag\n#types\tstring\tenum\tstring\tcount\tbool\n"
)
COLUMNS = {"id": "id", "label": "label", "group": "n"}


def read(tmp_path: Path, content: bytes, name: str = "a.log", **columns: str) -> list[Found | Rejected]:
    """Return the rows of a log; the columns are id, label and text, and n unless others are named."""
    (tmp_path / name).write_bytes(content)
    source = {"format": "zeek", "path": str(tmp_path / name)}
    return read_rows(configuration(tmp_path, [source], columns or COLUMNS), tmp_path / name)


def test_records_are_found_with_their_types_bytes_and_positions(tmp_path: Path) -> None:
    rows = read(
        tmp_path, HEADER + b"C1\ttcp\ta \\x09b\t17\tT\r\nC2\tudp\tc\t-\tF\n#close\t2024-05-01-01-00-00\n"
    )
    assert rows == [
        Found(
            len(HEADER),
            20,
            b"C1\ttcp\ta \\x09b\t17\tT\r",
            {"id": "C1", "label": "tcp", "text": "a \tb", "n": "17"},
        ),
        Found(
            len(HEADER) + 21, 12, b"C2\tudp\tc\t-\tF", {"id": "C2", "label": "udp", "text": "c", "n": None}
        ),
    ]
    assert isinstance(rows[0], Found)
    assert (type(rows[0].values["n"]), type(rows[0].values["text"])) == (Number, str)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (b"time", b"1714521600.000001", Number("1714521600.000001")),
        (b"interval", b"-0.5", Number("-0.5")),
        (b"double", b"1e+20", Number("1e+20")),
        (b"double", b"nan", Number("nan")),
        (b"port", b"443", Number("443")),
        (b"count", b"x17", None),
        (b"count", b"", None),
        (b"bool", b"F", Truth("false")),
        (b"bool", b"true", None),
        (b"set[string]", b"a,b", "a,b"),
        (b"vector[count]", b"(empty)", ""),
        (b"addr", b"fe80::1", "fe80::1"),
    ],
)
def test_values_have_the_types_that_the_header_gives(
    tmp_path: Path, kind: bytes, field: bytes, value: object
) -> None:
    content = b"#fields\ttext\tn\n#types\tstring\t" + kind + b"\na\t" + field + b"\n"
    rows = read(tmp_path, content, group="n")
    if value is None:
        assert reasons(rows) == ["wrong_type"]
    else:
        assert isinstance(rows[0], Found)
        assert (rows[0].values["n"], type(rows[0].values["n"])) == (value, type(value))


def test_without_types_a_field_is_text_that_may_be_a_number(tmp_path: Path) -> None:
    rows = read(tmp_path, b"#fields\ttext\tn\na\t17\n", group="n")
    assert isinstance(rows[0], Found)
    assert type(rows[0].values["n"]) is UntypedText


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (r"a\\b", r"a\b"),
        (r"a\\x41", r"a\x41"),
        (r"smile\xf0\x9f\x98\x81!", "smile\U0001f601!"),
        (r"\x2d", "-"),
        (r"\x28empty)", "(empty)"),
        (r"\xff\xfe\x41", r"\xff\xfeA"),
        (r"c:\temp\x4", r"c:\temp\x4"),
        ("naïve", "naïve"),
    ],
)
def test_escapes_are_the_signs_that_they_stand_for(tmp_path: Path, field: str, text: str) -> None:
    assert unescaped(field) == text
    rows = read(tmp_path, HEADER + f"C1\ttcp\t{field}\t1\tT\n".encode())
    assert isinstance(rows[0], Found)
    assert rows[0].values["text"] == text


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"C1\ttcp\ta\t1", "wrong_field_count"),
        (b"C1\ttcp\ta\t1\tT\tmore", "wrong_field_count"),
        (b"C1\ttcp\t\xff\t1\tT", "invalid_utf8"),
        (b"C1\ttcp\ta\tone\tT", "wrong_type"),
    ],
)
def test_a_damaged_line_is_rejected_alone(tmp_path: Path, line: bytes, reason: str) -> None:
    rows = read(tmp_path, HEADER + line + b"\n\nC2\ttcp\tb\t2\tF")
    assert reasons(rows) == [reason, None]
    assert (rows[0].position, rows[0].raw) == (len(HEADER), line)


def test_each_header_holds_for_what_follows_it(tmp_path: Path) -> None:
    other = (
        b"#separator \\x7c\n#unset_field|none\n#note|anything\n#fields|text|n|label|id\n"
        b"#types|string|count|enum|string\n"
    )
    content = b"\xef\xbb\xbf" + HEADER + b"C1\ttcp\ta\t1\tT\n" + other + b"b\t|none|udp|C2\n" + HEADER
    rows = read(tmp_path, content + b"C3\ttcp\t-\t3\tF\n")
    assert [row.values for row in rows if isinstance(row, Found)] == [
        {"id": "C1", "label": "tcp", "text": "a", "n": "1"},
        {"id": "C2", "label": "udp", "text": "b\t", "n": None},
        {"id": "C3", "label": "tcp", "text": None, "n": "3"},
    ]


@pytest.mark.parametrize(
    ("header", "rejected"),
    [
        (b"#separator \\x09\n", 1),
        (b"#fields\tid\tid\ttext\tlabel\tn\n", 2),
        (b"#fields\tid\tlabel\ttext\tn\tflag\n#types\tstring\tenum\n", 2),
        (b"#fields\tid\tlabel\ttext\tn\t\xff\n", 2),
    ],
)
def test_under_a_header_that_cannot_be_used_nothing_is_read(
    tmp_path: Path, header: bytes, rejected: int
) -> None:
    rows = read(tmp_path, header + b"C1\ttcp\ta\t1\tT\n" + HEADER + b"C2\ttcp\ta\t1\tT\n")
    assert [row is not None for row in reasons(rows)] == [True] * rejected + [False]
    assert reasons(rows)[rejected - 1] == "invalid_header"


def test_a_log_that_is_cut_off_is_read_up_to_there(tmp_path: Path) -> None:
    lines = b"".join(b"C%d\ttcp\t%x\t1\tT\n" % (n, n * 7919) for n in range(20_000))
    rows = read(tmp_path, gzip.compress(HEADER + lines)[:-2000], "a.log.gz")
    assert reasons(rows)[:-1] == [None] * (len(rows) - 1)
    assert len(rows) > 5_000
    assert reasons(rows)[-1] == "unreadable_file"


def test_exported_records_have_the_header_of_their_log(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(HEADER + b"C1\ttcp\n" + b"C2\ttcp\tb\t2\tF\n")
    config = configuration(tmp_path, [{"format": "zeek", "path": f"{tmp_path}/*.log"}])
    outcomes = pa.Table.from_batches(Reader(config).batches(0, list_pieces(config)))
    rows = outcomes.filter(pc.equal(outcomes["kind"], QUARANTINE))
    write_deltalake(tmp_path / "table", rows.select([*PLACE, "reason", "detail", "raw"]))
    export(config, DeltaTable(tmp_path / "table"), rows, tmp_path / "out")
    assert (tmp_path / "out/0/a.log").read_bytes() == HEADER + b"C1\ttcp\n"
