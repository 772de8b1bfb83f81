"""Delta tables as sources: files of a version, partitions, increments, what is refused."""

import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from common.errors import ConfigurationError, DataError
from etl.sources.changes import source_changes
from etl.sources.columns import check_columns
from etl.sources.files.formats import formats
from etl.sources.files.pieces import list_pieces
from etl.sources.reading import QUARANTINE, RECORD, Reader
from etl.sources.up_to_date import sources_fingerprint
from schemas.config import Configuration
from schemas.tables import Layout, sources_schema
from tests.etl.sources.source_files import configuration


def rows(*names: str, **more: Any) -> pa.Table:
    return pa.table({"id": list(names), "label": ["x"] * len(names), "text": ["t"] * len(names), **more})


def configured(folder: Path, **settings: Any) -> Configuration:
    source = {"format": "delta", "path": str(folder / "a table"), **settings}
    return configuration(folder, [source], {"id": "id", "label": "label"})


def read(config: Configuration) -> list[Any]:
    """Return id and label of the records, and the reason of what is none."""
    batches = list(Reader(config).batches(0, list_pieces(config)))
    found = [row for batch in batches for row in batch.to_pylist()]
    records = [(row["record_id"], row["column_0"]) for row in found if row["kind"] == RECORD]
    return sorted(records) + [row["reason"] for row in found if row["kind"] == QUARANTINE]


def test_a_version_is_read_whatever_came_later(tmp_path: Path) -> None:
    folder = str(tmp_path / "a table")
    write_deltalake(folder, rows("a", "b"))
    write_deltalake(folder, rows("c"), mode="append")
    DeltaTable(folder).delete("id = 'a'")
    check_columns(configured(tmp_path))
    assert [read(configured(tmp_path, version=number)) for number in (0, 1)] == [
        [("a", "x"), ("b", "x")],
        [("a", "x"), ("b", "x"), ("c", "x")],
    ]
    assert read(configured(tmp_path)) == [("b", "x"), ("c", "x")]
    assert configured(tmp_path, version=0).data_sha256() == configured(tmp_path).data_sha256()


def test_a_folder_whose_name_delta_would_misread_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'source.path' leads to .*/a\[1\]', and .* misread '\['"):
        list_pieces(configured(tmp_path, path=str(tmp_path / "a[1]")))


def test_partition_columns_come_from_the_log(tmp_path: Path) -> None:
    days = [datetime.date(2024, 1, 2)] * 3
    table = pa.table({"id": ["a", "b", "c"], "label": ["x/y z", None, "ü%"], "text": ["t"] * 3, "day": days})
    write_deltalake(str(tmp_path / "a table"), table, partition_by=["label", "day"])
    assert read(configured(tmp_path)) == [("a", "x/y z"), ("c", "ü%"), "null_value"]
    source = {"format": "delta", "path": str(tmp_path / "a table")}
    by_day = configuration(tmp_path, [source], {"id": "id", "label": "day"})
    assert read(by_day) == [(name, "2024-01-02") for name in "abc"]


def test_files_of_later_versions_are_new_and_removed_ones_vanish(tmp_path: Path) -> None:
    folder = str(tmp_path / "a table")
    write_deltalake(folder, rows("a"))
    config = configured(tmp_path)
    known = [
        {
            "source_index": 0,
            "source_path": piece.file.path,
            "bytes": piece.file.bytes,
            "sha256": "0",
            "modified": piece.file.modified,
            "status": "read",
        }
        for piece in list_pieces(config)
        if not piece.hash_only
    ]
    before = sources_fingerprint(config)
    write_deltalake(Layout.of(config).sources, pa.Table.from_pylist(known, sources_schema()))
    write_deltalake(folder, rows("b"), mode="append")
    assert sources_fingerprint(config) != before
    assert sources_fingerprint(configured(tmp_path, version=0)) == before
    changes = source_changes(config, list_pieces(config))
    assert (len({piece.file.path for piece in changes.new}), changes.changed, changes.vanished) == (1, [], [])
    DeltaTable(folder).optimize.compact()
    assert len(source_changes(config, list_pieces(config)).vanished) == 1


def commit(folder: Path, *actions: dict[str, Any]) -> None:
    """Add a commit to the log of a table."""
    log = folder / "a table" / "_delta_log"
    number = len(list(log.glob("*.json")))
    (log / f"{number:020}.json").write_text("\n".join(map(json.dumps, actions)))


def first_actions(folder: Path) -> dict[str, Any]:
    """Return the actions of the first commit of a table by kind."""
    lines = (folder / "a table" / "_delta_log" / f"{0:020}.json").read_text().splitlines()
    return {kind: action for line in lines for kind, action in json.loads(line).items()}


def test_deleted_rows_that_still_stand_in_files_are_refused(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "a table"), rows("a", "b"))
    add = first_actions(tmp_path)["add"]
    feature = ["deletionVectors"]
    protocol = {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": feature,
        "writerFeatures": feature,
    }
    commit(tmp_path, {"protocol": protocol})
    assert len(read(configured(tmp_path))) == 2  # none is deleted yet
    vector = {
        "storageType": "u",
        "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^",
        "offset": 4,
        "sizeInBytes": 40,
        "cardinality": 1,
    }
    removed = {"path": add["path"], "dataChange": True, "deletionTimestamp": 1}
    commit(tmp_path, {"remove": removed}, {"add": {**add, "deletionVector": vector}})
    with pytest.raises(
        DataError, match=r"version 2 of the Delta table .* has deletion vectors: .* REORG TABLE"
    ):
        list_pieces(configured(tmp_path))
    assert len(read(configured(tmp_path, version=1))) == 2


def test_other_names_in_the_files_are_refused(tmp_path: Path) -> None:
    mapped = {
        "delta.columnMapping.mode": "name",
        "delta.minReaderVersion": "2",
        "delta.minWriterVersion": "5",
    }
    write_deltalake(str(tmp_path / "a table"), rows("a"))
    meta = first_actions(tmp_path)["metaData"]
    commit(tmp_path, {"metaData": {**meta, "configuration": mapped}})
    with pytest.raises(DataError, match=r"maps its columns to other names in its files"):
        list_pieces(configured(tmp_path))


def test_what_is_no_table_or_has_no_such_version_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no Delta table: name the folder that holds _delta_log"):
        list_pieces(configured(tmp_path))
    write_deltalake(str(tmp_path / "a table"), rows("a"))
    with pytest.raises(
        DataError, match=r"version 7 of the Delta table .* cannot be read: .*; check source\.version"
    ):
        list_pieces(configured(tmp_path, version=7))
    DeltaTable(str(tmp_path / "a table")).delete()
    with pytest.raises(DataError, match=r"version 1 of the Delta table .* has no files"):
        list_pieces(configured(tmp_path))
    assert formats()["delta"].random_access
