"""Damaged logs of Delta tables."""

import shutil
from collections.abc import Callable
from pathlib import Path

import deltalake
import pyarrow as pa
import pytest

from common.errors import DataError
from common.storage import Storage
from etl.lake.log import Commit, drop_stale_checksums, open_table
from etl.publication.commit import listed_files


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a table of four versions, the numbers 0 to 3 in its rows."""
    for number in range(4):
        deltalake.write_deltalake(str(tmp_path / "t"), pa.table({"a": [number]}), mode="append")
    return tmp_path / "t"


def log_file(table: Path, version: int) -> Path:
    return table / "_delta_log" / f"{version:020}.json"


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "not JSON": (lambda t: log_file(t, 2).write_text("{broken"), f"{2:020}.json cannot be read"),
    "cut off": (
        lambda t: log_file(t, 3).write_bytes(log_file(t, 3).read_bytes()[:-40]),
        f"{3:020}.json cannot be read",
    ),
    "no text": (lambda t: log_file(t, 1).write_bytes(b"\xff\xfe\x00"), f"{1:020}.json cannot be read"),
    "a gap": (lambda t: log_file(t, 2).unlink(), f"{2:020}.json is missing"),
    "no beginning": (lambda t: log_file(t, 0).unlink(), f"{0:020}.json is missing"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_log_is_named_with_what_can_be_done(table: Path, damage: str) -> None:
    do, said = DAMAGE[damage]
    do(table)
    for read in (open_table, Commit.of):
        with pytest.raises(DataError) as raised:
            read(str(table), Storage())
        assert str(raised.value) == (
            f"the log of the table {table} is damaged: {said}; restore its _delta_log from a copy, or delete the "
            f"folder {table} and run the pipeline again, which makes the table anew"
        )


def test_checksums_of_files_that_are_gone_do_not_stand_in_the_way(table: Path) -> None:
    log = table / "_delta_log"
    (log / f".{2:020}.json.crc").touch()
    (log / f".{7:020}.json.crc").touch()
    (log / f"{2:020}.crc").touch()
    (log / f".{2:020}.crc.crc").touch()
    drop_stale_checksums(str(table))
    assert sorted(file.name for file in log.iterdir() if file.suffix == ".crc") == [
        f".{2:020}.crc.crc", f".{2:020}.json.crc", f"{2:020}.crc"
    ]  # fmt: skip


def test_what_the_library_alone_sees_is_told_in_a_line(table: Path) -> None:
    (table / "_delta_log" / "_last_checkpoint").write_text('{"version":2,"size":3}')
    with pytest.raises(
        DataError, match=r"t cannot be read: Invalid Checkpoint: .*; if its log is damaged, restore"
    ):
        open_table(str(table), Storage())


def test_errors_of_the_system_are_no_damage(table: Path) -> None:
    shutil.rmtree(table / "_delta_log")
    (table / "_delta_log").touch()
    with pytest.raises(
        DataError, match=r"t cannot be read: Not a directory \(os error 20\); look at its permissions"
    ):
        open_table(str(table), Storage())


@pytest.mark.parametrize("name", ["gold/shards", "bronze/tombstones"])
def test_nobody_is_told_to_delete_what_cannot_be_made_anew(table: Path, tmp_path: Path, name: str) -> None:
    shutil.move(table, tmp_path / name)
    log_file(tmp_path / name, 2).write_text("{broken")
    with pytest.raises(DataError, match=r"cannot be read; restore its _delta_log from a copy$"):
        open_table(str(tmp_path / name), Storage())


def test_a_version_that_does_not_exist_is_no_damage(table: Path) -> None:
    with pytest.raises(DataError, match=r"version 17 of the table .* cannot be read; its newest is 3"):
        listed_files(str(table), 17, Storage())
    opened = open_table(str(table), Storage(), 2)
    assert opened is not None
    assert opened.version() == 2


def test_a_folder_without_a_log_is_no_table(tmp_path: Path) -> None:
    assert open_table(str(tmp_path), Storage()) is None
