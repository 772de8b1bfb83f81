"""ORC: rows, types, paths, damage."""

import datetime
import random
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import orc

from etl.sources.columns import check_columns
from etl.sources.contract import Accepted, Contract
from etl.sources.files.formats import Found, Rejected
from schemas.config import Configuration
from tests.etl.sources.source_files import configuration, read_rows, reasons

TIME = datetime.datetime(2020, 1, 2, 3, 4, 5)
ROWS = [
    {
        "id": 2**62 + n,
        "label": n % 2,
        "event": {"text": f"é {n}", "at": TIME},
        "tags": [{"k": f"{i}"} for i in range(n)],
    }
    for n in range(5)
]
ROLES = {"id": "id", "label": "label", "time": "event.at", "rename": {"text": "event.text"}}


def written(folder: Path, table: pa.Table) -> Path:
    orc.write_table(table, folder / "a.orc", compression="zstd")
    return folder / "a.orc"


def configured(file: Path, **more: str) -> Configuration:
    return configuration(file.parent, [{"format": "orc", "path": str(file)}], {**ROLES, **more})


def values(config: Configuration, rows: list[Found | Rejected]) -> list[tuple[str | bytes | None, ...] | str]:
    """Return id and values of each record, and the reason of what is none."""
    checked = [Contract(config).check(row.values, "a", 0, 0) for row in rows if isinstance(row, Found)]
    return [(one.record_id, *one.values) if isinstance(one, Accepted) else one.reason for one in checked]


def test_rows_are_read_with_their_types_and_paths(tmp_path: Path) -> None:
    config = configured(written(tmp_path, pa.Table.from_pylist(ROWS)), group="tags[1].k")
    check_columns(config)
    rows = read_rows(config, tmp_path / "a.orc")
    assert [row.position for row in rows] == list(range(5))
    found = values(config, rows)
    assert found[:2] == ["null_value", "null_value"]
    assert found[2] == (str(2**62 + 2), "0", "1", "2020-01-02T03:04:05", "é 2")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([True]), "true"),
        (pa.array([Decimal("1.50")]), "1.50"),
        (pa.array([0.1], pa.float32()), "0.1"),
        (pa.array(["é".encode()]), "é"),
        (pa.array([datetime.date(2020, 1, 2)]), "2020-01-02"),
        (pa.array([TIME.replace(microsecond=600)]), "2020-01-02T03:04:05.0006"),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_labels_are_taken_as_they_are_written(tmp_path: Path, array: pa.Array, expected: str) -> None:
    table = pa.table({"id": ["a"], "label": array, "text": ["t"]})
    config = configuration(tmp_path, [{"format": "orc", "path": str(written(tmp_path, table))}])
    assert values(config, read_rows(config, tmp_path / "a.orc")) == [("a", expected, "t")]


def test_files_of_another_schema_and_damaged_ones_are_told(tmp_path: Path) -> None:
    file = written(tmp_path, pa.table({"other": [1, 2]}))
    assert reasons(read_rows(configured(file), file)) == ["missing_column"] * 2
    noise = random.Random(1)
    texts = [noise.randbytes(500).hex() for _ in range(3000)]
    table = pa.table({"id": texts, "label": texts, "event": [{"text": text, "at": TIME} for text in texts]})
    whole = written(tmp_path, table).read_bytes()
    for content in (
        whole[: len(whole) // 2],
        b"no ORC",
        b"",
        whole[:100_000] + bytes(200_000) + whole[300_000:],
    ):
        file.write_bytes(content)
        rows = read_rows(configured(file), file)
        assert reasons(rows)[-1] == "unreadable_file"
        assert set(reasons(rows[:-1])) <= {None}


def test_what_grows_beyond_the_limit_is_given_up(tmp_path: Path) -> None:
    texts = ["x" * (1 << 20)] * 200
    table = pa.table({"id": [f"{n}" for n in range(200)], "label": ["x"] * 200, "text": texts})
    orc.write_table(table, tmp_path / "a.orc", compression="zstd", dictionary_key_size_threshold=1.0)
    config = configuration(tmp_path, [{"format": "orc", "path": str(tmp_path / "a.orc")}])
    rows = read_rows(config, tmp_path / "a.orc")
    assert reasons(rows) == [None] * (len(rows) - 1) + ["too_large_content"]
    assert len(rows) < 100
