"""Parquet: rows, types, row groups, damage."""

import datetime
import random
import uuid
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.sources.contract import Accepted, Contract, Problem
from etl.sources.files import parquet
from etl.sources.files.formats import Found, Rejected
from etl.sources.files.parquet import BATCH_ROWS, batch_rows, raw_row
from tests.etl.sources.source_files import configuration, read_rows, reasons

COLUMNS = {"label": "label", "time": "seen"}
UUID = uuid.UUID(int=10**30)
MOMENT = datetime.datetime(2024, 1, 2, 3, 4, 5, 600)


def read(
    tmp_path: Path, table: pa.Table, start: int = 0, end: int | None = None, **options: object
) -> list[Found | Rejected]:
    file = tmp_path / "a.parquet"
    pq.write_table(table, file, **options)
    config = configuration(tmp_path, [{"format": "parquet", "path": str(file)}], COLUMNS)
    return read_rows(config, file, start, end)


def checked(tmp_path: Path, rows: list[Found | Rejected]) -> list[tuple[str | bytes | None, ...] | str]:
    held_to = Contract(configuration(tmp_path, [{"format": "parquet", "path": "*"}], COLUMNS))
    results = [held_to.check(row.values, "a", 0, row.position) for row in rows if isinstance(row, Found)]
    return [result.values if isinstance(result, Accepted) else result.reason for result in results]


def test_strings_and_times_are_taken_for_what_they_are(tmp_path: Path) -> None:
    moment = datetime.datetime(2020, 1, 1, 12, 0, 0, 250000, tzinfo=datetime.UTC)
    table = pa.table(
        {
            "extra": [1, 2],
            "text": pa.array(["é", "b"], pa.large_string()),
            "label": pa.array(["x", "y"]).dictionary_encode(),
            "seen": pa.array([moment, moment], pa.timestamp("us", tz="Europe/Berlin")),
        }
    )
    rows = read(tmp_path, table)
    assert [(row.position, row.raw) for row in rows] == [(0, b""), (1, b"")]
    assert checked(tmp_path, rows) == [
        ("x", "2020-01-01T12:00:00.25Z", "é"),
        ("y", "2020-01-01T12:00:00.25Z", "b"),
    ]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (pa.array([datetime.date(2020, 1, 2)]), "2020-01-02"),
        (pa.array([1600000000]), "1600000000"),
        (pa.array([1.5]), "1.5"),
        (pa.array(["2020-01-02T00:00:00"]), "2020-01-02T00:00:00"),
        (pa.array([datetime.datetime(2020, 1, 2)], pa.timestamp("s")), "2020-01-02T00:00:00"),
    ],
)
def test_the_time_column_has_several_types(tmp_path: Path, times: pa.Array, expected: str) -> None:
    rows = read(tmp_path, pa.table({"label": ["x"], "text": ["t"], "seen": times}))
    assert checked(tmp_path, rows) == [("x", expected, "t")]


def test_wrong_types_nulls_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    times = {"seen": ["2020-01-01"]}
    assert checked(tmp_path, read(tmp_path, pa.table({"label": ["x"], "text": [7], **times}))) == [
        "wrong_type"
    ]
    assert checked(tmp_path, read(tmp_path, pa.table({"label": [["x"]], "text": ["t"], **times}))) == [
        "wrong_type"
    ]
    assert checked(tmp_path, read(tmp_path, pa.table({"label": [b"\xff"], "text": ["t"], **times}))) == [
        "invalid_utf8"
    ]
    assert checked(
        tmp_path, read(tmp_path, pa.table({"label": pa.nulls(1, pa.string()), "text": ["t"], **times}))
    ) == ["null_value"]
    assert checked(tmp_path, read(tmp_path, pa.table({"label": ["x"], "text": bad, **times}))) == [
        "invalid_utf8"
    ]
    assert checked(tmp_path, read(tmp_path, pa.table({"label": ["x"], "text": ["t"]}))) == ["missing_column"]
    assert reasons(read(tmp_path, pa.table({"other": [1, 2]}))) == ["missing_column", "missing_column"]
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    assert reasons(read(tmp_path, twice)) == ["duplicate_column"]


@pytest.mark.parametrize("cuts", [[], [1], [500], [4, 700, 701, 2000], list(range(1, 4000, 37))])
def test_byte_ranges_own_each_row_group_once(tmp_path: Path, cuts: list[int]) -> None:
    table = pa.table(
        {"label": ["x"] * 50, "text": [f"text {i}" for i in range(50)], "seen": ["2020-01-01"] * 50}
    )
    whole = read(tmp_path, table, row_group_size=7)
    assert [row.position for row in whole] == list(range(50))
    file = tmp_path / "a.parquet"
    config = configuration(tmp_path, [{"format": "parquet", "path": str(file)}], COLUMNS)
    bounds = [0, *cuts, file.stat().st_size]
    assert [row for a, b in pairwise(bounds) for row in read_rows(config, file, a, b)] == whole


def test_damage_is_one_row_after_those_before_it(tmp_path: Path) -> None:
    table = pa.table(
        {"label": ["x"] * 6, "text": [f"text {i}" for i in range(6)], "seen": ["2020-01-01"] * 6}
    )
    read(tmp_path, table, row_group_size=2, compression="zstd")
    file = tmp_path / "a.parquet"
    config = configuration(tmp_path, [{"format": "parquet", "path": str(file)}], COLUMNS)
    content = bytearray(file.read_bytes())
    column = pq.ParquetFile(file).metadata.row_group(1).column(1)
    begin = column.dictionary_page_offset or column.data_page_offset
    content[begin : begin + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    file.write_bytes(content)
    rows = read_rows(config, file)
    assert reasons(rows) == [None, None, "unreadable_file"]
    assert rows[2] == Rejected(
        2, b"", "unreadable_file", "the file is not Parquet or is damaged from row 2 on", True, 4
    )
    file.write_bytes(b"PAR1 nothing of the kind")
    assert reasons(read_rows(config, file)) == ["unreadable_file"]


def test_a_name_that_is_not_utf_8_is_one_row(tmp_path: Path) -> None:
    table = pa.table({"label": ["x"], "text": ["t"], "seen": ["2020-01-01"], "other": ["o"]})
    read(tmp_path, table, store_schema=False)
    file = tmp_path / "a.parquet"
    config = configuration(tmp_path, [{"format": "parquet", "path": str(file)}], COLUMNS)
    file.write_bytes(file.read_bytes().replace(b"other", b"oth\xffr"))
    assert read_rows(config, file) == [
        Rejected(
            0,
            b"",
            "unreadable_file",
            "the name of a column is not valid UTF-8: nothing is read from row 0 on",
            True,
            0,
        )
    ]


def test_a_row_group_without_rows_has_no_shared_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.sources.files.parquet.SMALL_CHUNK", -1)
    table = pa.table({"label": ["x"], "text": ["t"], "seen": ["2020-01-01"]})
    file = tmp_path / "a.parquet"
    with pq.ParquetWriter(file, table.schema) as writer:
        writer.write_table(table.slice(0, 0))
        writer.write_table(table)
    config = configuration(tmp_path, [{"format": "parquet", "path": str(file)}], COLUMNS)
    assert [row.position for row in read_rows(config, file)] == [0]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([0, 1]), ["0", "1"]),
        (pa.array([2**63 + 1, None], pa.uint64()), ["9223372036854775809", "null_value"]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array([1.0, float("nan")]), ["1.0", "null_value"]),
        (pa.array([0.1, 1e20], pa.float32()), ["0.1", "1e+20"]),
        (pa.array([Decimal("1.50"), Decimal("0.00")]), ["1.50", "0.00"]),
        (pa.array([datetime.date(2020, 1, 2)] * 2), ["2020-01-02"] * 2),
        (pa.array([b"a", "é".encode()]), ["a", "é"]),
        (pa.array([b"ab", b"cd"], pa.binary(2)), ["ab", "cd"]),
        (pa.array([UUID.bytes, None], pa.uuid()), [str(UUID), "null_value"]),
        (pa.array([MOMENT] * 2, pa.timestamp("us")), ["2024-01-02T03:04:05.0006"] * 2),
        (pa.array([MOMENT] * 2, pa.timestamp("ns")), ["2024-01-02T03:04:05.0006"] * 2),
        (pa.array([MOMENT] * 2, pa.timestamp("us", tz="Asia/Tokyo")), ["2024-01-02T03:04:05.0006Z"] * 2),
        (pa.array([MOMENT.time()] * 2, pa.time64("ns")), ["03:04:05.0006"] * 2),
        (pa.array([datetime.time(3, 4)] * 2, pa.time32("ms")), ["03:04:00"] * 2),
        (pa.array([datetime.timedelta(1), None]), ["wrong_type", "null_value"]),
        (pa.array(["a", "b"], pa.string_view()), ["a", "b"]),
        (pa.array([b"a", b"b"], pa.large_binary()).dictionary_encode(), ["a", "b"]),
        (pa.array([1, 0]).dictionary_encode(), ["1", "0"]),
        (pa.array([[1], []]), ["wrong_type", "wrong_type"]),
        (pa.nulls(2), ["null_value"] * 2),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_labels_are_taken_as_they_are_written(tmp_path: Path, array: pa.Array, expected: list[str]) -> None:
    rows = read(tmp_path, pa.table({"label": array, "text": ["t"] * 2, "seen": ["2020-01-01"] * 2}))
    assert [one if isinstance(one, str) else one[0] for one in checked(tmp_path, rows)] == expected


NESTED: list[dict[str, Any]] = [
    {
        "text": "t",
        "event": {"level": f"l{n}", "labels": {"app.io/name": f"n{n}"}},
        "items": [{"name": f"i{i}"} for i in range(n)],
        "tags": [("k", f"k{n}")],
        "a.b": f"own{n}",
        "a": {"b": "nested"},
    }
    for n in range(3)
] + [{"text": "t", "event": None, "items": None, "tags": [], "a.b": "own", "a": None}]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("event.level", ["l0", "l1", "l2", None]),
        ('event.labels."app.io/name"', ["n0", "n1", "n2", None]),
        ("items[1].name", [None, None, "i1", None]),
        ("tags.k", ["k0", "k1", "k2", None]),
        ("a.b", ["own0", "own1", "own2", "own"]),
    ],
)
@pytest.mark.parametrize("dictionary", [True, False])
def test_nested_columns_are_read_by_path(
    tmp_path: Path, path: str, expected: list[str | None], dictionary: bool
) -> None:
    nested = pa.list_(pa.struct([("name", pa.string())]))
    event = pa.struct([("level", pa.string()), ("labels", pa.struct([("app.io/name", pa.string())]))])
    kinds = [
        ("text", pa.string()),
        ("event", event),
        ("items", nested),
        ("tags", pa.map_(pa.string(), pa.string())),
    ]
    schema = pa.schema([*kinds, ("a.b", pa.string()), ("a", pa.struct([("b", pa.string())]))])
    file = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(NESTED, schema), file, use_dictionary=dictionary, row_group_size=2)
    config = configuration(tmp_path, [{"format": "parquet", "path": str(file)}], {"label": path})
    rows = read_rows(config, file)
    assert [row.values[path] for row in rows if isinstance(row, Found)] == expected


@pytest.mark.parametrize("path", ["label.a", "label[1]", "label[0].a", "label.a[0]"])
def test_uuids_are_found_by_paths(tmp_path: Path, path: str) -> None:
    one = pa.array([UUID.bytes], pa.uuid())
    in_struct = pa.StructArray.from_arrays([one], ["a"])
    labels = {
        "label.a": pa.MapArray.from_arrays([0, 1], pa.array(["a"]), one),
        "label[1]": pa.FixedSizeListArray.from_arrays(pa.array([b"x" * 16, UUID.bytes], pa.uuid()), 2),
        "label[0].a": pa.LargeListArray.from_arrays([0, 1], in_struct),
        "label.a[0]": pa.StructArray.from_arrays([pa.ListArray.from_arrays([0, 1], one)], ["a"]),
    }
    pq.write_table(pa.table({"label": labels[path], "text": ["t"]}), tmp_path / "a.parquet")
    source = {"format": "parquet", "path": str(tmp_path / "a.parquet")}
    (row,) = read_rows(configuration(tmp_path, [source], {"label": path}), tmp_path / "a.parquet")
    assert isinstance(row, Found)
    assert row.values[path] == str(UUID)


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array([MOMENT]), "is a date or time and not a string"),
        (pa.array([MOMENT.date()]), "is a date or time and not a string"),
        (pa.array([datetime.timedelta(1)]), "is a duration"),
        (pa.array([["t"]]), "a list, an object or binary"),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_what_is_no_text_is_told_for_what_it_is(tmp_path: Path, array: pa.Array, kind: str) -> None:
    (row,) = read(tmp_path, pa.table({"label": ["x"], "text": array, "seen": ["2020-01-01"]}))
    assert isinstance(row, Found)
    config = configuration(tmp_path, [{"format": "parquet", "path": "*"}], COLUMNS)
    problem = Contract(config).check(row.values, "a", 0, 0)
    assert isinstance(problem, Problem)
    assert kind in problem.detail


def test_a_missing_column_names_its_namesakes(tmp_path: Path) -> None:
    table = pa.table({"log": [{"label": "x"}], "text": ["t"], "seen": ["2020-01-01"]})
    (row,) = read(tmp_path, table)
    assert isinstance(row, Found)
    held_to = Contract(configuration(tmp_path, [{"format": "parquet", "path": "*"}], COLUMNS))
    assert held_to.check(row.values, "a", 0, 0) == Problem(
        "missing_column", "the column 'label' is missing; there is 'log.label'"
    )


LONG = "x" * (1 << 20)


@pytest.mark.parametrize("dictionary", [True, False])
def test_what_grows_beyond_the_limit_is_given_up(tmp_path: Path, dictionary: bool) -> None:
    """A thousand rows of one value, which is written once, or whose copies all but vanish under compression."""
    rows = 1000 if dictionary else 100
    table = pa.table({"label": ["x"] * rows, "text": [LONG] * rows, "seen": ["2020-01-01"] * rows})
    found = read(tmp_path, table, use_dictionary=dictionary, compression="zstd")
    assert found[-1] == Rejected(
        len(found) - 1,
        b"",
        "too_large_content",
        "the content is more than 200 times as large as the file (`max_expansion` of its [[source]]): nothing is read "
        f"from row {len(found) - 1:,} on",
        True,
        rows - (len(found) - 1),
    )
    if dictionary:
        assert reasons(found[:-1]) == [None] * 63
    else:
        assert len(found) == 1
        # A piece that begins with the second row group gives the same row: the two are one row of the quarantine.
        (second,) = read(tmp_path, table, 5, row_group_size=50, use_dictionary=False, compression="zstd")
        assert found == [replace(second, size=rows)]  # type: ignore[type-var]
        assert second.size == 50  # type: ignore[union-attr]
    config = configuration(
        tmp_path,
        [{"format": "parquet", "path": str(tmp_path / "a.parquet"), "max_expansion": 10**7}],
        COLUMNS,
    )
    assert reasons(read_rows(config, tmp_path / "a.parquet")) == [None] * rows


def test_of_long_rows_fewer_are_read_at_a_time(tmp_path: Path) -> None:
    def rows_of(texts: list[str]) -> int:
        pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
        return batch_rows(pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0))

    noise = random.Random(3).randbytes(24 << 20).translate(bytes(97 + i % 26 for i in range(256))).decode()
    assert rows_of([noise]) == 1
    assert rows_of([noise[i : i + (1 << 20)] for i in range(0, 24 << 20, 1 << 20)]) == 31
    assert rows_of(["short"] * 1000) == BATCH_ROWS


def test_where_rows_share_a_long_value_fewer_are_read_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = random.Random(3).randbytes(8 << 20).translate(bytes(97 + i % 26 for i in range(256))).decode()
    own = [noise[i : i + 4096] for i in range(0, len(noise), 4096)]
    asked: list[int] = []
    real = parquet.batch_rows

    def asking(group: pq.RowGroupMetaData, shared: int) -> int:
        asked.append(real(group, shared))
        return asked[-1]

    monkeypatch.setattr(parquet, "batch_rows", asking)
    file = tmp_path / "a.parquet"
    source = {"format": "parquet", "path": str(file), "max_expansion": 8}
    config = configuration(tmp_path, [source], {"label": "label"})
    table = pa.table({"label": ["x"] * 3048, "text": [noise] * 1000 + own})
    pq.write_table(table, file, compression="none", dictionary_pagesize_limit=64 << 20)
    found = read_rows(config, file)
    assert asked == [4]
    assert set(reasons(found[:-1])) == {None}
    assert reasons(found)[-1] == "too_large_content"
    # Distinct texts soon leave no room in the dictionary, and follow it as they are.
    pq.write_table(table.slice(1000), file)
    found = read_rows(config, file)
    assert asked == [4, BATCH_ROWS]
    assert [row.values["text"] for row in found if isinstance(row, Found)] == own


def test_nested_rows_that_share_a_long_value_are_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def four(_: pq.RowGroupMetaData, shared: int) -> int:
        asked.append(shared)
        return 4

    monkeypatch.setattr(parquet, "batch_rows", four)
    noise = random.Random(3).randbytes(2 << 20).translate(bytes(97 + i % 26 for i in range(256))).decode()
    rows = [{"event": {"items": [{"message": noise}]}, "label": "x"}] * 20
    file = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows), file, compression="none", dictionary_pagesize_limit=64 << 20)
    roles = {"label": "label", "rename": {"text": "event.items[0].message"}}
    config = configuration(tmp_path, [{"format": "parquet", "path": str(file)}], roles)
    assert [
        row.values["event.items[0].message"] for row in read_rows(config, file) if isinstance(row, Found)
    ] == [noise] * 20
    assert asked == [len(noise)]


def test_what_is_quarantined_counts_for_the_limit_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.sources.files.parquet.MAX_RECORD_BYTES", 1000)
    table = pa.table({"label": ["x"] * 500, "text": [LONG] * 500, "seen": ["2020-01-01"] * 500})
    found = read(tmp_path, table, compression="zstd")
    assert set(reasons(found[:-1])) == {"too_long"}
    assert (len(found), reasons(found)[-1]) == (64, "too_large_content")


def test_a_row_that_is_too_long_is_quarantined_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.sources.files.parquet.MAX_RECORD_BYTES", 100)
    table = pa.table({"label": ["x"] * 3, "text": ["a", "b" * 100, "c"], "seen": ["2020-01-01"] * 3})
    found = read(tmp_path, table)
    assert reasons(found) == [None, "too_long", None]
    assert found[1].raw.startswith(b'{"label": "x"')


def test_the_quarantine_gets_a_row_as_json() -> None:
    assert (
        raw_row({"a": "é", "b": None, "c": Problem("x", "y")})
        == '{"a": "é", "b": null, "c": "(not text)"}'.encode()
    )


def test_a_path_into_a_map_with_numbers_for_keys_leads_nowhere(tmp_path: Path) -> None:
    kind = pa.map_(pa.int32(), pa.string())
    table = pa.table({"id": ["1"], "text": ["a"], "label": pa.array([[(1, "x")]], kind)})
    file = tmp_path / "a.parquet"
    pq.write_table(table, file)
    columns = {"id": "id", "label": "label.a"}
    config = configuration(tmp_path, [{"format": "parquet", "path": str(file)}], columns)
    (row,) = read_rows(config, file)
    assert isinstance(row, Found)
    assert dict(row.values) == {"id": "1", "text": "a"}
