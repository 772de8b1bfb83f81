"""JSON arrays and objects over several lines: records, positions, damage, windows."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.sources.files import json as json_format
from etl.sources.files.formats import Found, Rejected
from tests.etl.sources.source_files import configuration, read_rows, reasons

RECORDS: list[dict[str, Any]] = [
    {"id": f"{n}", "label": "x", "text": f'{{"]\\ {n} é', "more": [{"n": n}, [], {}]} for n in range(5)
]
LAYOUTS = {
    "one line": json.dumps(RECORDS),
    "compact": json.dumps(RECORDS, separators=(",", ":")),
    "indented": json.dumps(RECORDS, indent=2, ensure_ascii=False),
    "a record a line": "[\n" + ",\n".join(map(json.dumps, RECORDS)) + "\n]\n",
    "commas first": "["
    + json.dumps(RECORDS[0])
    + "".join(f"\r\n,{json.dumps(r)}" for r in RECORDS[1:])
    + "]",
    "indented objects": "\n".join(json.dumps(record, indent=4) for record in RECORDS),
    "several arrays": json.dumps(RECORDS[:2]) + "\n" + json.dumps(RECORDS[2:]),
    "marked": "\ufeff " + json.dumps(RECORDS, indent=1),
}


def read(
    tmp_path: Path, content: str | bytes, name: str = "json", suffix: str = ""
) -> list[Found | Rejected]:
    file = tmp_path / f"a.json{suffix}"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_rows(configuration(tmp_path, [{"format": name, "path": str(file)}]), file)


def ids(rows: list[Found | Rejected]) -> list[object]:
    """Return the id of each record, and the reason of each other row."""
    return [row.values.get("id") if isinstance(row, Found) else row.reason for row in rows]


@pytest.fixture(params=[1 << 20, 7])
def windows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in pieces of this many bytes at least."""
    monkeypatch.setattr(json_format, "CHUNK", request.param)


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize("name", ["json", "jsonl"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_records_are_read_however_they_are_laid_out(tmp_path: Path, layout: str, name: str) -> None:
    content = LAYOUTS[layout].encode()
    rows = read(tmp_path, content, "json" if layout == "several arrays" else name)
    assert [row.values["text"] for row in rows if isinstance(row, Found)] == [r["text"] for r in RECORDS]
    for row, record in zip(rows, RECORDS, strict=True):
        assert content[row.position : row.position + len(row.raw)] == row.raw
        assert json.loads(row.raw) == record


def test_objects_that_follow_each_other_in_a_line_are_read_as_json_alone(tmp_path: Path) -> None:
    content = "".join(map(json.dumps, RECORDS))
    assert ids(read(tmp_path, content)) == [record["id"] for record in RECORDS]
    (row,) = read(tmp_path, content, "jsonl")
    assert isinstance(row, Rejected)
    assert row.detail.endswith('extra data; format = "json" reads several objects in a line')


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize("name", ["json", "jsonl"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\ufeff", "\n\x1e"])
def test_an_array_of_objects_a_line_is_read_as_json(tmp_path: Path, name: str, end: str) -> None:
    pages = [RECORDS[:2], RECORDS[2:], RECORDS[:0], RECORDS[:1]]
    content = "".join(json.dumps(page) + end for page in pages).encode()
    assert ids(read(tmp_path, content, name)) == [record["id"] for page in pages for record in page]
    (row,) = read(tmp_path, b'[{"id": "a"}]\n{', "jsonl")[:1]
    assert isinstance(row, Rejected)
    assert row.detail.endswith('not an object; format = "json" reads arrays of objects')


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize("sign", ["\x1e", "\ufeff"])
@pytest.mark.parametrize("name", ["json", "jsonl"])
def test_marks_and_record_separators_between_objects_are_skipped(
    tmp_path: Path, name: str, sign: str
) -> None:
    objects = [json.dumps(record, indent=1) + "\n" for record in RECORDS]
    content = "".join(sign + one for one in objects).encode()
    assert ids(read(tmp_path, content, name)) == [record["id"] for record in RECORDS]
    broken = content.replace(b"{", b"{]", 1)
    assert ids(read(tmp_path, broken, "json")) == ["invalid_json", *(record["id"] for record in RECORDS[1:])]
    assert ids(read(tmp_path, content + b"\xef", "json"))[-1] == "not_an_object"


def test_lines_remain_lines(tmp_path: Path) -> None:
    lines = [b"[1, 2]", b'["a", {"b": 1}]', json.dumps(RECORDS[0]).encode(), b'{"id": "cut",']
    rows = read(tmp_path, b"\n".join(lines), "jsonl")
    assert ids(rows) == ["not_an_object", "not_an_object", "0", "invalid_json"]
    cut_first = [lines[3], json.dumps(RECORDS[0]).encode(), b"{}", b"5", json.dumps(RECORDS[1]).encode()]
    assert ids(read(tmp_path, b"\n".join(cut_first), "jsonl")) == [
        "invalid_json",
        "0",
        None,
        "not_an_object",
        "1",
    ]


def test_a_large_array_is_read_by_the_first_of_its_pieces(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(LAYOUTS["a record a line"])
    config = configuration(tmp_path, [{"format": "jsonl", "path": str(file)}])
    assert ids(read_rows(config, file, 0, 40)) == [record["id"] for record in RECORDS]
    assert read_rows(config, file, 40, 400) == []


DAMAGE: dict[str, tuple[str, str]] = {
    "a quote is missing": ('"text": "{', '"text": "'),
    "a quote too many": ("é", '"é'),
    "a bracket is missing": ("{}]}", "{}]"),
    "a bracket too many": ("{}]}", "{}]]}"),
    "another bracket": ("{}]}", "{}}}"),
    "a colon is missing": ('"more":', '"more"'),
    "a comma is missing": ('"x",', '"x"'),
    "a break in a string": ("é", "\n"),
    "no UTF-8": ("é", "\udcff"),
}


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize(
    "layout", ["one line", "a record a line", "indented", "indented objects", "commas first"]
)
@pytest.mark.parametrize("kind", DAMAGE)
def test_of_a_damaged_record_the_others_are_read(tmp_path: Path, kind: str, layout: str) -> None:
    records = [{**record, "text": "{é"} for record in RECORDS]
    indent = {"indented": 2, "indented objects": 4}.get(layout)
    whole = [json.dumps(record, indent=indent, ensure_ascii=False) for record in records]
    before, after = DAMAGE[kind]
    if indent is not None:
        before, after = before.replace("{}]}", "{}\n" + " " * indent + "]\n}"), after
    assert before in whole[2]
    whole[2] = whole[2].replace(before, after)
    if kind == "a quote is missing":
        whole[2] = whole[2].replace('"é"', "é") if '"é"' in whole[2] else whole[2].replace('"é', "é")
    begin, between, end = {
        "one line": ("[", ", ", "]"),
        "a record a line": ("[\n", ",\n", "\n]"),
        "indented": ("[\n", ",\n", "\n]"),
        "indented objects": ("", "\n", ""),
        "commas first": ("[", "\n,", "]"),
    }[layout]
    content = (begin + between.join(whole) + end).encode("utf-8", "surrogateescape")
    rows = read(tmp_path, content)
    assert [row.values["id"] for row in rows if isinstance(row, Found)] == ["0", "1", "3", "4"]
    rejected = [row for row in rows if isinstance(row, Rejected)]
    assert set(reasons(rejected)) <= {"invalid_json", "invalid_utf8"}
    assert rejected[0].position == len((begin + between.join([*whole[:2], ""])).encode())


@pytest.mark.usefixtures("windows")
def test_what_is_cut_off_is_told(tmp_path: Path) -> None:
    whole = LAYOUTS["one line"]
    within = read(tmp_path, whole[:-20])
    assert ids(within) == ["0", "1", "2", "3", "invalid_json"]
    assert isinstance(within[-1], Rejected)
    assert within[-1].detail == "not JSON: the file ends within the record"
    behind = read(tmp_path, whole[:-1])
    assert ids(behind)[-1] == "unclosed_array"
    assert behind[-1] == Rejected(
        len(whole) - 1,
        b"",
        "unclosed_array",
        "the array that begins at byte 0 is never closed: the file seems to be cut off",
    )


def test_of_a_damaged_compressed_file_the_beginning_is_read(tmp_path: Path) -> None:
    noise = random.Random(1)
    many = [{"id": f"{n}", "text": noise.randbytes(300).hex()} for n in range(2000)]
    packed = gzip.compress(json.dumps(many).encode())
    rows = read(tmp_path, packed[: len(packed) // 2], suffix=".gz")
    assert len(rows) > 500
    assert reasons(rows)[:-1] == [None] * (len(rows) - 1)
    assert isinstance(rows[-1], Rejected)
    assert (rows[-1].reason, rows[-1].damaged) == ("unreadable_file", True)
    assert reasons(read(tmp_path, packed[:15], suffix=".gz")) == ["unreadable_file"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[1, "a]", {"id": "a"}, null, {"id": "b"}]', ["not_an_object", "a", "not_an_object", "b"]),
        ('[{"id": "a"}, [{"id": "b"}], {"id": "c"}]', ["a", "not_an_object", "c"]),
        ('{"id": "a"}} {"id": "b"}]', ["a", "invalid_json", "b", "invalid_json"]),
        ('{"id": "a"}\nhello "world\n{"id": "b"}', ["a", "not_an_object", "not_an_object", "b"]),
        ('[{"id": "a"} {"id": "b"},, {"id": "c"},]', ["a", "b", "c"]),
        ('{"id": NaN}{"id": "b"}', ["invalid_json", "b"]),
        ('{"id": "a", "id": "b"}', ["duplicate_key"]),
        ("", []),
        (" \n ", []),
        ("[]", []),
    ],
)
def test_everything_else_is_a_row_of_its_own(tmp_path: Path, content: str, expected: list[object]) -> None:
    assert ids(read(tmp_path, content)) == expected


@pytest.mark.parametrize("lines", [True, False])
def test_memory_is_bounded_by_the_longest_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: bool
) -> None:
    monkeypatch.setattr(json_format, "CHUNK", 1 << 10)
    monkeypatch.setattr(json_format, "MAX_RECORD_BYTES", 4 << 10)
    monkeypatch.setattr(json_format, "MAX_RAW_BYTES", 2 << 10)
    monkeypatch.setattr("etl.sources.files.jsonl.MAX_RECORD_BYTES", 4 << 10)
    held: list[int] = []
    more = json_format.Window.more

    def watching(self: json_format.Window, keep: int) -> bool:
        going_on = more(self, keep)
        held.append(len(self.held))
        return going_on

    monkeypatch.setattr(json_format.Window, "more", watching)
    long = [{"id": f"long {n}", "text": text * (1 << 20)} for n, text in enumerate("a\\")]
    records = [{"id": f"{n}", "text": "t"} for n in range(1000)]
    mixed = [*records[:500], *long, *records[500:]]
    content = json.dumps(mixed) if not lines else "[\n" + ",\n".join(map(json.dumps, mixed)) + "]"
    rows = read(tmp_path, content)
    assert [row.values["id"] for row in rows if isinstance(row, Found)] == [r["id"] for r in records]
    rejected = [row for row in rows if isinstance(row, Rejected)]
    assert reasons(rejected) == ["too_long"] * 2
    assert max(held) < 40 << 10


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
RECORD = st.dictionaries(st.text(), VALUES, max_size=4)
BLANK = st.text(" \t\r\n", max_size=3)


@settings(max_examples=200, deadline=None)
@given(
    records=st.lists(RECORD, max_size=6),
    indent=st.none() | st.integers(0, 3),
    ascii_only=st.booleans(),
    array=st.booleans(),
    blank=BLANK,
    chunk=st.sampled_from([1, 5, 64, 1 << 20]),
)
def test_records_are_those_of_the_standard_library_in_any_layout(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[dict[str, Any]],
    indent: int | None,
    ascii_only: bool,
    array: bool,
    blank: str,
    chunk: int,
) -> None:
    folder = tmp_path_factory.mktemp("layouts")
    written = [json.dumps(record, indent=indent, ensure_ascii=ascii_only) for record in records]
    between = f"{blank},{blank}" if array else blank
    begin, end = ("[", "]") if array else ("", "")
    content = (blank + begin + between.join(written) + end + blank).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_format, "CHUNK", chunk)
        rows = read(folder, content)
    assert all(isinstance(row, Found) for row in rows)
    assert [row.raw.decode() for row in rows] == written
    assert all(content[row.position : row.position + len(row.raw)] == row.raw for row in rows)


def test_records_that_break_at_one_place_are_followed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    before = json_format.Objects._before

    def counted(objects: json_format.Objects, end: int) -> bytes:
        looked.append(end)
        return before(objects, end)

    monkeypatch.setattr(json_format.Objects, "_before", counted)
    line = '{"id": "a", "label": "x", "text": ["cut",\n'
    rows = read(tmp_path, line * 50)
    assert ids(rows) == ["invalid_json"] * 50
    assert len(looked) == 99
    looked.clear()
    rows = read(tmp_path, line * 50 + "}\n" + '{"id": "b", "label": "x", "text": "whole"}\n')
    assert ids(rows) == ["invalid_json"] * 50 + ["b"]
    assert len(looked) == 99
    details = [row.detail for row in rows if isinstance(row, Rejected)]
    assert f" at byte {len(line)} of " in details[-1]
    assert f" at byte {50 * len(line):,} of " in details[0]


def test_a_bracket_is_found_behind_much_white_space(tmp_path: Path) -> None:
    record = '{"id": "a", "label": "x", "text": "t", "more": [' + " " * 5000 + "{}" + "\n" * 300 + ", {}]}"
    assert ids(read(tmp_path, record)) == ["a"]
