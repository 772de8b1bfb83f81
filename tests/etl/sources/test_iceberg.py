"""Iceberg tables as sources: files of a snapshot, partitions, increments, what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from common.errors import DataError, UsageError
from etl.sources.columns import check_columns
from etl.sources.files.pieces import list_pieces
from etl.sources.reading import RECORD, Reader
from etl.sources.up_to_date import sources_fingerprint
from schemas.config import Configuration
from tests.etl.sources.source_files import configuration

catalogs = pytest.importorskip("pyiceberg.catalog.sql")


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Any]:
    """Create a table in `tmp_path / "n" / "t"`, partitioned by its label, with two records."""
    catalog = catalogs.SqlCatalog("c", uri="sqlite:///:memory:", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("n")
    created = catalog.create_table("n.t", schema=rows("a").schema)
    with created.update_spec() as spec:
        spec.add_identity("label")
    created.append(rows("a", "b"))
    yield created
    catalog.engine.dispose()


def rows(*names: str) -> pa.Table:
    return pa.table({"id": list(names), "label": ["x/y"] * len(names), "text": ["t"] * len(names)})


def configured(folder: Path, **settings: Any) -> Configuration:
    source = {"format": "iceberg", "path": str(folder / "n" / "t"), **settings}
    return configuration(folder, [source], {"id": "id", "label": "label"})


def ids(config: Configuration) -> list[tuple[str, str]]:
    """Return id and label of the records."""
    batches = list(Reader(config).batches(0, list_pieces(config)))
    found = [row for batch in batches for row in batch.to_pylist() if row["kind"] == RECORD]
    return sorted((row["record_id"], row["column_0"]) for row in found)


def test_a_snapshot_is_read_whatever_came_later(tmp_path: Path, table: Any) -> None:
    first = table.current_snapshot().snapshot_id
    before = sources_fingerprint(configured(tmp_path))
    table.append(rows("c"))
    check_columns(configured(tmp_path))
    assert ids(configured(tmp_path)) == [("a", "x/y"), ("b", "x/y"), ("c", "x/y")]
    assert ids(configured(tmp_path, snapshot=first)) == [("a", "x/y"), ("b", "x/y")]
    assert sources_fingerprint(configured(tmp_path, snapshot=first)) == before
    assert sources_fingerprint(configured(tmp_path)) != before
    assert configured(tmp_path, snapshot=first).data_sha256() == configured(tmp_path).data_sha256()
    (tmp_path / "n" / "t" / "metadata" / "version-hint.text").write_text("2")
    assert ids(configured(tmp_path)) == [("a", "x/y"), ("b", "x/y")]


def test_renamed_columns_are_refused(tmp_path: Path, table: Any) -> None:
    with table.update_schema() as update:
        update.rename_column("text", "body")
    with pytest.raises(DataError, match=r"the column 'body' of the Iceberg table .* was called 'text'"):
        list_pieces(configured(tmp_path))


def test_deleted_rows_that_still_stand_in_files_are_refused(
    tmp_path: Path, table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = list(table.scan().plan_files())
    tasks[0].delete_files.add(tasks[0].file)
    monkeypatch.setattr("pyiceberg.table.DataScan.plan_files", lambda _: tasks)
    with pytest.raises(DataError, match="rows that were deleted but still stand in its files"):
        list_pieces(configured(tmp_path))


def test_what_is_no_table_or_has_no_such_snapshot_is_told(
    tmp_path: Path, table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"has no snapshot 7; its newest are \d+: correct source\.snapshot"):
        list_pieces(configured(tmp_path, snapshot=7))
    table.delete()
    with pytest.raises(DataError, match="has no files in this snapshot"):
        list_pieces(configured(tmp_path))
    with pytest.raises(DataError, match="is no Iceberg table: name the folder that holds metadata/"):
        list_pieces(configured(tmp_path / "other"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r'pip install "ringlake\[iceberg\]"'):
        list_pieces(configured(tmp_path))
