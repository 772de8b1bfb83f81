"""Atomic writing: all or nothing, durable where it promises to be."""

import contextlib
import errno
import os
import stat
from pathlib import Path

import pytest

from common import files, storage


def test_a_file_is_replaced_as_a_whole_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.json"
    for content in (b"first", b"second, and longer"):
        with files.replacing(path) as file:
            file.write(content)
            assert not path.exists() or path.read_bytes() == b"first"
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "location", [storage.write_bytes, lambda path, content: files.write(Path(path), content)]
)
def test_locations_and_paths_get_the_same_modes(location: object, tmp_path: Path) -> None:
    assert callable(location)
    before = os.umask(0o027)
    try:
        location(str(tmp_path / "file"), b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize(("number", "told"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_file_system_that_syncs_no_folders_is_no_obstacle(
    number: int, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def of_files_alone(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr("os.fsync", of_files_alone)
    with pytest.raises(OSError, match="Input/output") if told else contextlib.nullcontext():
        files.write(tmp_path / "file", b"x")
    assert (tmp_path / "file").read_bytes() == b"x"


@pytest.mark.parametrize("error", [OSError("no space left on device"), KeyboardInterrupt()])
def test_an_interruption_leaves_what_was_there(error: BaseException, tmp_path: Path) -> None:
    def interrupted() -> None:
        with files.replacing(tmp_path / "file") as file:
            file.write(b"new")
            raise error

    files.write(tmp_path / "file", b"old")
    with pytest.raises(type(error)):
        interrupted()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_what_the_disk_refuses_leaves_what_was_there(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    files.write(tmp_path / "file", b"old")
    monkeypatch.setattr(os if place == "fsync" else Path, place, fail)
    with pytest.raises(OSError, match="no space"):
        files.write(tmp_path / "file", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def test_the_file_is_synced_before_it_gets_its_name_and_the_folder_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[bool, bool]] = []

    def fsync(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), (tmp_path / "file").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    files.write(tmp_path / "file", b"x", durable=False)
    assert synced == []
    (tmp_path / "file").unlink()
    storage.write_bytes(str(tmp_path / "file"), b"x")
    assert synced == [(False, False), (True, True)]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    with files.replacing(tmp_path / "file") as first:
        first.write(b"first")
        files.write(tmp_path / "file", b"the second, which is longer")
    assert (tmp_path / "file").read_bytes() == b"first"


def test_a_uri_is_written_as_a_whole_too() -> None:
    for content in (b"first", b"second"):
        storage.write_bytes("memory://files/folder/file", content)
        assert storage.read_bytes("memory://files/folder/file") == content
    file_system, path = storage.filesystem("memory://files/folder")
    assert len(file_system.ls(path)) == 1
