"""Columns that the folders of a file name, in every format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import ConfigurationError
from etl.sources.columns import check_columns
from etl.sources.files.pieces import list_pieces
from etl.sources.reading import QUARANTINE, RECORD, Reader
from schemas.config import Configuration
from tests.etl.sources.source_files import configuration

WRITE: dict[str, Callable[[Path, dict[str, Any]], object]] = {
    "jsonl": lambda file, record: file.write_text(json.dumps(record)),
    "json": lambda file, record: file.write_text(json.dumps([record], indent=1)),
    "csv": lambda file, record: file.write_text(
        ",".join(record) + "\n" + ",".join(map(str, record.values()))
    ),
    "parquet": lambda file, record: pq.write_table(pa.Table.from_pylist([record]), file),
}


def outcomes(config: Configuration) -> list[tuple[str | None, ...]]:
    """Return id, label and group of the records, and path and reason of what is none."""
    batches = list(Reader(config).batches(0, list_pieces(config)))
    rows = [row for batch in batches for row in batch.to_pylist()]
    found = [(row["record_id"], row["column_0"], row["column_1"]) for row in rows if row["kind"] == RECORD]
    return found + [(row["source_path"], row["reason"]) for row in rows if row["kind"] == QUARANTINE]


@pytest.mark.parametrize("name", WRITE)
def test_a_folder_names_a_column_of_all_its_records(tmp_path: Path, name: str) -> None:
    for folder in ("label=pos/day=1", "label=neg%21/day=2", "label=__HIVE_DEFAULT_PARTITION__/day=3"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        WRITE[name](tmp_path / "data" / folder / "a", {"id": folder[-5:], "text": "some words"})
    # A column of the record itself wins.
    WRITE[name](tmp_path / "data" / "label=pos" / "b", {"id": "own", "text": "t", "label": "mine", "day": 9})
    source = {"format": name, "path": f"{tmp_path}/data/**/*"}
    config = configuration(tmp_path, [source], {"id": "id", "label": "label", "group": "day"})
    check_columns(config)
    assert sorted(outcomes(config)) == [
        ("day=1", "pos", "1"),
        ("day=2", "neg!", "2"),
        ("label=__HIVE_DEFAULT_PARTITION__/day=3/a", "null_value"),
        ("own", "mine", "9"),
    ]


def test_a_folder_above_the_root_is_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "label=pos").mkdir()
    WRITE["jsonl"](tmp_path / "label=pos" / "a.jsonl", {"id": "a", "text": "some words"})
    source = {"format": "jsonl", "path": f"{tmp_path}/label=pos/*.jsonl"}
    with pytest.raises(ConfigurationError, match=r"or set source\.root to a folder above the one that names"):
        check_columns(configuration(tmp_path, [source]))
    check_columns(configuration(tmp_path, [{**source, "root": str(tmp_path)}]))
