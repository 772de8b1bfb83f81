"""Avro: rows, types, paths, damage."""

import datetime
import io
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import UsageError
from etl.sources.columns import check_columns
from etl.sources.contract import Accepted, Contract
from etl.sources.files.formats import Found
from etl.sources.files.pieces import list_pieces
from schemas.config import Configuration
from tests.etl.sources.source_files import configuration, read_rows, reasons

fastavro = pytest.importorskip("fastavro")
MOMENT = datetime.datetime(2024, 1, 2, 3, 4, 5, 600, datetime.UTC)
NULLABLE = ["null", "string"]
EVENT = {"type": "record", "name": "event", "fields": [{"name": "text", "type": NULLABLE}]}
SCHEMA = {
    "type": "record",
    "name": "row",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "label", "type": {"type": "enum", "name": "kind", "symbols": ["x", "y"]}},
        {"name": "event", "type": ["null", EVENT]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "attributes", "type": {"type": "map", "values": "string"}},
    ],
}
ROLES = {"id": "id", "label": "label", "time": "at", "rename": {"text": "event.text"}}


def rows(count: int, text: str = "é") -> list[dict[str, Any]]:
    at = datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)
    return [
        {
            "id": 2**62 + n,
            "label": "xy"[n % 2],
            "event": {"text": f"{text} {n}"},
            "at": at,
            "attributes": {"k": f"{n}"},
        }
        for n in range(count)
    ]


def written(
    file: Path, records: list[dict[str, Any]], schema: Any = SCHEMA, codec: str = "null"
) -> Configuration:
    with file.open("wb") as out:
        fastavro.writer(out, schema, records, codec=codec)
    return configuration(file.parent, [{"format": "avro", "path": str(file)}], ROLES)


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "zstandard", "bzip2", "xz"])
def test_rows_are_read_with_their_types_and_paths(tmp_path: Path, codec: str) -> None:
    config = written(tmp_path / "a.avro", [*rows(2), {**rows(1)[0], "event": None}], codec=codec)
    check_columns(config)
    found = read_rows(config, tmp_path / "a.avro")
    checked = [
        Contract(config).check(row.values, "a", 0, row.position) for row in found if isinstance(row, Found)
    ]
    assert [row.position for row in found] == [0, 1, 2]
    first = checked[0]
    assert isinstance(first, Accepted)
    assert (first.record_id, first.time_seconds) == (str(2**62), 1577923200.0)
    assert first.values == ("x", "2020-01-02T00:00:00Z", "é 0")
    assert [getattr(one, "reason", None) for one in checked] == [None, None, "null_value"]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("int", -7, "-7"),
        ("boolean", True, "true"),
        ("double", 0.1, "0.1"),
        ("bytes", "é".encode(), "é"),
        ("bytes", b"\xff", "invalid_utf8"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}, Decimal("1.50"), "1.50"),
        ({"type": "int", "logicalType": "date"}, datetime.date(2020, 1, 2), "2020-01-02"),
        ({"type": "long", "logicalType": "timestamp-micros"}, MOMENT, "2024-01-02T03:04:05.0006Z"),
        ({"type": "long", "logicalType": "local-timestamp-micros"}, MOMENT, "2024-01-02T03:04:05.0006"),
        ({"type": "long", "logicalType": "time-micros"}, MOMENT.time(), "03:04:05.0006"),
        ({"type": "array", "items": "int"}, [1], "wrong_type"),
    ],
)
def test_labels_are_taken_as_they_are_written(
    tmp_path: Path, kind: Any, value: object, expected: str
) -> None:
    fields = [{"name": "label", "type": kind}, {"name": "text", "type": "string"}]
    written(
        tmp_path / "a.avro",
        [{"label": value, "text": "t"}],
        {"type": "record", "name": "row", "fields": fields},
    )
    config = configuration(
        tmp_path, [{"format": "avro", "path": str(tmp_path / "a.avro")}], {"label": "label"}
    )
    (row,) = read_rows(config, tmp_path / "a.avro")
    assert isinstance(row, Found)
    checked = Contract(config).check(row.values, "a", 0, 0)
    assert (checked.values[0] if isinstance(checked, Accepted) else checked.reason) == expected


@pytest.mark.parametrize(
    ("kind", "expected"), [("float", "0.1"), (["float", "double"], "0.10000000149011612")]
)
@pytest.mark.parametrize("path", ["label", "in.label", "in.list[1]", "again.list[0]", "map.k"])
def test_numbers_of_single_precision_have_the_shortest_digits(
    tmp_path: Path, kind: Any, expected: str, path: str
) -> None:
    lists = {"type": "array", "items": kind}
    inner = {"type": "record", "name": "inner", "namespace": "n", "fields": [
        {"name": "label", "type": ["null", kind] if isinstance(kind, str) else kind}, {"name": "list", "type": lists}
    ]}  # fmt: skip
    kinds = {
        "text": "string",
        "label": kind,
        "in": ["null", inner],
        "again": "n.inner",
        "map": {"type": "map", "values": kind},
    }
    single = float(np.float32(0.1))
    nested = {"label": single, "list": [single] * 2}
    record = {"text": "t", "label": single, "in": nested, "again": nested, "map": {"k": single}}
    fields = [{"name": name, "type": one} for name, one in kinds.items()]
    written(tmp_path / "a.avro", [record], {"type": "record", "name": "row", "fields": fields})
    source = {"format": "avro", "path": str(tmp_path / "a.avro")}
    (row,) = read_rows(configuration(tmp_path, [source], {"label": path}), tmp_path / "a.avro")
    assert isinstance(row, Found)
    assert row.values[path] == expected


def test_damage_is_one_row_after_those_before_it(tmp_path: Path) -> None:
    file = tmp_path / "a.avro"
    noise = random.Random(1)
    config = written(file, rows(2000, noise.randbytes(200).hex()), codec="deflate")
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:20], b"no Avro", b"", whole[:-200] + bytes(200)):
        file.write_bytes(content)
        found = reasons(read_rows(config, file))
        assert (found[-1], set(found[:-1]) <= {None}) == ("unreadable_file", True)
    for seed in range(300):
        changed = bytearray(whole)
        for _ in range(noise.randrange(1, 5)):
            changed[noise.randrange(len(changed) if seed % 2 else 700)] = noise.randrange(256)
        file.write_bytes(changed)
        assert set(reasons(read_rows(config, file))) <= {None, "unreadable_file"}


def test_no_more_is_read_than_the_limit_allows(tmp_path: Path) -> None:
    config = written(tmp_path / "a.avro", rows(100, "x" * (1 << 20)), codec="deflate")
    found = reasons(read_rows(config, tmp_path / "a.avro"))
    assert found == [None] * (len(found) - 1) + ["too_large_content"]
    assert len(found) < 70


def test_without_the_library_a_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = written(tmp_path / "a.avro", rows(1))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r'pip install "ringlake\[avro\]"'):
        list_pieces(config)


def test_a_schema_that_is_no_record_is_told(tmp_path: Path) -> None:
    out = io.BytesIO()
    fastavro.writer(out, "string", ["a", "b"])
    (tmp_path / "a.avro").write_bytes(out.getvalue())
    config = configuration(tmp_path, [{"format": "avro", "path": str(tmp_path / "a.avro")}], ROLES)
    assert reasons(read_rows(config, tmp_path / "a.avro")) == ["not_an_object"] * 2
