"""Re-hashing of files in its three modes."""

import hashlib
import os
from pathlib import Path

import pytest

from common import storage
from common.errors import DataError
from provenance import checksums
from provenance.checksums import check_file, sha256_of

CONTENT = b"0123456789" * 1000


@pytest.fixture
def shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(checksums, "SETTLED_SECONDS", -1.0)  # the file is new, but nobody writes to it
    file = tmp_path / "shard"
    file.write_bytes(CONTENT)
    return file


def check(file: Path, mode: checksums.Mode) -> None:
    check_file(str(file), hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), mode)


def test_a_good_file_passes_and_its_bytes_are_counted(shard: Path) -> None:
    seen: list[int] = []
    assert sha256_of(str(shard), on_bytes=seen.append) == (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    assert sum(seen) == len(CONTENT)
    for mode in ("full", "cached", "cached", "off"):
        check(shard, mode)


def test_one_hash_serves_uris_and_says_what_to_do(tmp_path: Path) -> None:
    storage.write_bytes("memory://checksums/file", CONTENT)
    assert sha256_of("memory://checksums/file") == (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    with pytest.raises(DataError, match=r"absent is missing; look again"):
        sha256_of(str(tmp_path / "absent"), remedy="look again")
    with pytest.raises(DataError, match=r"cannot be read: Is a directory; restore it"):
        sha256_of(str(tmp_path))


def test_damage_names_the_file(shard: Path) -> None:
    shard.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(DataError, match=r"shard is damaged: its SHA-256"):
        check(shard, "full")
    shard.write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match=r"shard is damaged: it has 9,999 bytes instead of 10,000"):
        check(shard, "full")
    shard.unlink()
    with pytest.raises(DataError, match=r"shard is missing"):
        check(shard, "full")
    check(shard, "off")


def test_cached_does_not_read_again_what_has_not_changed(
    shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(shard, "cached")

    def refuse(*_: object) -> tuple[str, int]:
        raise AssertionError("the file was read again")

    monkeypatch.setattr(checksums, "sha256_of", refuse)
    check(shard, "cached")
    with pytest.raises(AssertionError, match="read again"):
        check(shard, "full")


def test_cached_finds_a_flipped_byte_with_the_modification_time_put_back(shard: Path) -> None:
    check(shard, "cached")
    before = shard.stat()
    with shard.open("r+b") as file:
        file.seek(5000)
        file.write(b"X")
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert shard.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(DataError, match="damaged"):
        check(shard, "cached")


def test_a_file_that_was_just_written_is_not_remembered(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "SETTLED_SECONDS", 3600.0)
    check(shard, "cached")
    shard.write_bytes(b"9" + CONTENT[1:])
    with pytest.raises(DataError, match="damaged"):
        check(shard, "cached")


def test_a_damaged_memory_is_ignored(shard: Path, tmp_path: Path) -> None:
    check(shard, "cached")
    (memory,) = (tmp_path / "cache").rglob("*.json")
    for nonsense in ("", "{}", "[1, 2]", "not json"):
        memory.write_text(nonsense, encoding="utf-8")
        check(shard, "cached")
