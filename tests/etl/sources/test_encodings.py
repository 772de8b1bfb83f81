"""Text files in other encodings than UTF-8: found, decoded, with their positions, and advice about refused ones."""

import codecs
import gzip
import json
from pathlib import Path

import pytest

from etl.sources.content.encodings import COMMON, guessed
from etl.sources.files import pieces
from etl.sources.files.formats import Found, Rejected
from etl.sources.files.jsonl import JsonLinesFormat
from etl.sources.reading import QUARANTINE, Reader
from tests.etl.sources.source_files import configuration, read_rows, reasons

WORDS = ("größer", "Straße, naß", "über alles", "schön wär’s", "fünf €", "Käse\nund Brötchen")
MARKS = {"utf-8": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
MARKS |= {"utf-32-le": codecs.BOM_UTF32_LE, "utf-32-be": codecs.BOM_UTF32_BE}


def table(encoding: str, end: str = "\n") -> tuple[bytes, list[int]]:
    """Return CSV in an encoding, and where its records begin."""
    rows = [f'{number},x,"{word}"' for number, word in enumerate(WORDS)]
    lines = [line.encode(encoding) for line in ("id,label,text", *rows)]
    content, begins = b"", []
    for line in lines:
        begins.append(len(content))
        content += line + end.encode(encoding)
    return content, begins[1:]


def read(tmp_path: Path, content: bytes, name: str = "a.csv", **settings: object) -> list[Found | Rejected]:
    file = tmp_path / name
    file.write_bytes(content)
    kind = "csv" if ".csv" in name else "jsonl"
    return read_rows(configuration(tmp_path, [{"format": kind, "path": str(file), **settings}]), file)


@pytest.mark.parametrize(
    "encoding",
    ["cp1252", "utf-16-le", "utf-16-be", "utf-32-be", "gb18030", "utf-7", "mac_roman"],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_records_are_decoded_and_their_positions_are_those_in_the_file(
    tmp_path: Path, encoding: str, end: str
) -> None:
    content, begins = table(encoding, end)
    rows = read(tmp_path, content, encoding=encoding)
    assert [row.values["text"] for row in rows if isinstance(row, Found)] == list(WORDS)
    assert [row.position for row in rows] == begins
    ends = [*begins[1:], len(content)]
    without = (
        len(end.encode(encoding)) if end != "\r\n" else len("\n".encode(encoding))
    )  # a CR belongs to the record
    lengths = [row.length for row in rows if isinstance(row, Found)]
    assert lengths == [stop - begin - without for begin, stop in zip(begins, ends, strict=True)]


@pytest.mark.parametrize("encoding", MARKS)
@pytest.mark.parametrize("setting", ["utf-8", "auto", "cp1252"])
def test_a_byte_order_mark_decides(tmp_path: Path, encoding: str, setting: str) -> None:
    content, begins = table(encoding)
    rows = read(tmp_path, MARKS[encoding] + content, encoding=setting)
    assert [row.values["text"] for row in rows if isinstance(row, Found)] == list(WORDS)
    assert [row.position for row in rows] == [begin + len(MARKS[encoding]) for begin in begins]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16-le", "utf-16-be"])
def test_an_encoding_is_detected(tmp_path: Path, encoding: str) -> None:
    content, _ = table(encoding)
    for name, stored in (("a.csv", content), ("b.csv.gz", gzip.compress(content))):
        rows = read(tmp_path, stored, name, encoding="auto")
        assert [row.values["text"] for row in rows if isinstance(row, Found)] == list(WORDS)


@pytest.mark.parametrize("name", ["utf-16", "utf-32"])
def test_the_byte_order_without_a_mark_shows_in_the_content(tmp_path: Path, name: str) -> None:
    for order in ("le", "be"):
        content, begins = table(f"{name}-{order}")
        rows = read(tmp_path, content, encoding=name)
        assert [row.position for row in rows] == begins
        assert reasons(rows) == [None] * len(WORDS)
    wrong = read(tmp_path, "id,label,text\na,x,t\n".encode("utf-16-be"), encoding="utf-16-le")
    assert reasons(wrong) == ["invalid_header"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Der Kühlschrank läuft leise und größer ist er auch", "cp1252"),
        ("it’s “great” – 5 €", "cp1252"),
        ("Привет, это отзыв о товаре, очень хороший", "cp1251"),
        ("Привет, это отзыв о товаре, очень хороший", "koi8_r"),
        ("Zażółć gęślą jaźń i idź do domu, to jest tekst po polsku", "cp1250"),
        ("日本語のテキストです。とても良い商品でした", "cp932"),
        ("这是一个中文文本的例子，非常好", "gb18030"),
    ],
)
def test_a_guess_is_right_for_a_sentence(text: str, encoding: str) -> None:
    sample = text.encode(encoding)
    assert guessed(sample, sample) == encoding
    assert encoding in COMMON


def quarantined(tmp_path: Path, content: bytes, **settings: object) -> list[str]:
    (tmp_path / "a.jsonl").write_bytes(content)
    source = {"format": "jsonl", "path": str(tmp_path / "a.jsonl"), **settings}
    config = configuration(tmp_path, [source])
    batches = Reader(config).batches(0, pieces.list_pieces(config))
    return [row["detail"] for batch in batches for row in batch.to_pylist() if row["kind"] == QUARANTINE]


def of_lines(*words: str) -> str:
    records = ({"id": str(n), "label": "x", "text": word} for n, word in enumerate(words))
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def test_a_refusal_names_the_byte_and_the_encoding_that_it_looks_like(tmp_path: Path) -> None:
    lines = of_lines("plain", "größer")
    place = lines.encode("cp1252").index(b"\xf6")
    cause = f'byte 0xF6 at {place} is not UTF-8: this looks like cp1252: source.encoding = "cp1252"'
    assert quarantined(tmp_path, lines.encode("cp1252")) == [cause]
    # One damaged line among others that are UTF-8 tells nothing of an encoding.
    mixed = of_lines("größer", "schöner").encode() + lines.encode("cp1252")
    place += len(of_lines("größer", "schöner").encode())
    assert quarantined(tmp_path, mixed)[:1] == [f"byte 0xF6 at {place} is not UTF-8"]
    assert quarantined(tmp_path, b'{"id": "\x81"}\n', encoding="cp1252") == [
        "a byte of the record is not cp1252, the encoding of the file"
    ]
    details = quarantined(tmp_path, of_lines("plain", "more").encode("utf-16-le"))
    assert details
    assert all(detail.endswith('looks like utf-16-le: source.encoding = "utf-16-le"') for detail in details)


def test_what_cannot_be_decoded_spoils_no_other_record(tmp_path: Path) -> None:
    lines = [f'{{"id": "{n}", "label": "x", "text": "ü"}}\n'.encode("utf-16-be") for n in range(3)]
    lines[1] = lines[1].replace("ü".encode("utf-16-be"), b"\xd8\x01")  # half a surrogate pair
    rows = read(tmp_path, b"".join(lines), "a.jsonl", encoding="utf-16-be")
    assert reasons(rows) == [None, "invalid_utf8", None]
    assert [row.position for row in rows] == [0, len(lines[0]), 2 * len(lines[0])]
    odd = read(tmp_path, b"".join(lines) + b"\n", "a.jsonl", encoding="utf-16-be")
    assert reasons(odd) == [None, "invalid_utf8", None, "invalid_utf8"]


def test_files_in_other_encodings_are_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JsonLinesFormat, "piece_bytes", 20)
    monkeypatch.setattr("etl.sources.files.formats.CHUNK", 64)
    for encoding, mark, cut in (
        ("utf-8", b"", True),
        ("utf-8", MARKS["utf-16-le"], False),
        ("cp1252", b"", False),
    ):
        content = mark + of_lines(*WORDS).encode("utf-16-le" if mark else encoding, "replace")
        assert quarantined(tmp_path, content, encoding=encoding) == []
        config = configuration(
            tmp_path, [{"format": "jsonl", "path": str(tmp_path / "a.jsonl"), "encoding": encoding}]
        )
        assert (len(pieces.list_pieces(config)) > 1) == cut


@pytest.mark.parametrize("name", ["latin-9000", "base64", "rot13", "idna", "undefined"])
def test_what_is_no_encoding_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="allowed are `auto` and the encodings of Python"):
        configuration(tmp_path, [{"format": "csv", "path": "*", "encoding": name}])


def test_a_damaged_byte_does_not_make_another_encoding_of_utf_8(tmp_path: Path) -> None:
    words = ["Überraschung", "Größe", "schön", "für alle", "Änderung"]
    lines = "".join(f"{n},x,{words[n % 5]} wäre möglich\n" for n in range(40)).encode()
    content = b"id,label,text\n" + lines + b"40,x,caf\xe9 cr\xe8me\n" + "41,x,sch\u00f6n".encode()[:-2]
    rows = read(tmp_path, content, encoding="auto")
    assert reasons(rows) == [None] * 40 + ["invalid_utf8"] * 2
    assert isinstance(rows[0], Found)
    assert rows[0].values["text"] == "Überraschung wäre möglich"
