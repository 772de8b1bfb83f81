"""Hashing of published files again, in full or trusting files that have not changed since they were last hashed."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt
from isal import isal_zlib

from common import files, storage
from common.errors import DataError
from common.storage import Storage

Mode = Literal["full", "cached", "off"]
CHUNK = 1 << 20
SETTLED_SECONDS = 2.0
"""Age below which a hashed file is not remembered: a later write in the same tick of the file system's clock would
leave its times unchanged.
"""


def cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/ringlake`, by default `~/.cache/ringlake`."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "ringlake"


def row_group_crc32(columns: Iterable[npt.NDArray[Any]]) -> int:
    """Return the CRC-32 (ISO-HDLC, as in gzip) over the bytes of consecutive columns, each C-contiguous,
    little-endian.

    It finds what changed between the hashing of a file and the reading of a row group, at the speed of memory.
    """
    checksum = 0
    for values in columns:
        checksum = isal_zlib.crc32(values.data, checksum)
    return checksum


def sha256_of(
    location: str,
    options: Storage | None = None,
    on_bytes: Callable[[int], None] | None = None,
    remedy: str = "restore it or publish the data set again",
) -> tuple[str, int]:
    """Return the hex SHA-256 and size in bytes of a file.

    Raises DataError naming a missing or unreadable file, and the `remedy`.
    """
    file_system, path = storage.filesystem(location, options)
    digest, size = hashlib.sha256(), 0
    try:
        with file_system.open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                if on_bytes is not None:
                    on_bytes(len(chunk))
    except FileNotFoundError as error:
        raise DataError(f"the file {location} is missing; {remedy}") from error
    except OSError as error:
        raise DataError(f"the file {location} cannot be read: {error.strerror or error}; {remedy}") from error
    return digest.hexdigest(), size


def check_file(
    location: str,
    sha256: str,
    size: int,
    mode: Mode,
    options: Storage | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> None:
    """Check a file against its hash and size; raise DataError naming the file on a mismatch.

    `full` always reads it. `cached` trusts a local file whose size, modification time, change time and inode are as
    when it was last found good, and reads all others. `off` checks nothing.
    """
    if mode == "off":
        return
    local = storage.is_local(location)
    identity = _identity(storage.absolute(location)) if local else None
    if mode == "cached" and identity is not None and _remembered(location) == [sha256, *identity]:
        if on_bytes is not None:
            on_bytes(size)
        return
    found, found_size = sha256_of(location, options, on_bytes)
    if found_size != size:
        raise DataError(
            f"the file {location} is damaged: it has {found_size:,} bytes instead of {size:,}; "
            "restore it or publish the data set again"
        )
    if found != sha256:
        raise DataError(
            f"the file {location} is damaged: its SHA-256 is {found}, not {sha256}; "
            "restore it or publish the data set again"
        )
    if identity is not None and identity == _identity(storage.absolute(location)):
        _remember(location, [sha256, *identity])


def _identity(path: str) -> list[int] | None:
    """Return size, modification time, change time (ns), inode and device; None for a missing or changing file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if time.time() - max(status.st_mtime, status.st_ctime) < SETTLED_SECONDS:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]


def _memory_of(location: str) -> Path:
    name = hashlib.sha256(storage.absolute(location).encode()).hexdigest()
    return cache_folder() / "verified" / name[:2] / f"{name}.json"


def _remembered(location: str) -> list[object] | None:
    try:
        entry = json.loads(_memory_of(location).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # no or no readable memory: the file is hashed instead
    return entry if isinstance(entry, list) else None


def _remember(location: str, entry: list[object]) -> None:
    memory = _memory_of(location)
    # An unwritable cache folder costs time at the next check, but no correctness.
    with contextlib.suppress(OSError):
        files.write(memory, json.dumps(entry).encode(), durable=False)
