"""JSON lines files, appended to one line at a time.

A last line without a line end is the remains of an interrupted write: readers ignore it, and the next append removes
it.
"""

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from common import files, storage
from common.errors import DataError
from common.progress import log
from common.storage import Storage

Entry = TypeVar("Entry")
BLOCK = 1 << 12
DAMAGE = (ValueError, TypeError, LookupError)
"""Errors by which a line is found to be no entry."""


def lines(location: str, options: Storage | None = None) -> list[bytes]:
    """Return the complete lines of a file without their line ends; none for a missing file."""
    if not storage.exists(location, options):
        return []
    return storage.read_bytes(location, options).split(b"\n")[:-1]


def read(
    location: str, parse: Callable[[bytes], Entry] = json.loads, options: Storage | None = None
) -> Iterator[Entry]:
    """Yield the entries of a file.

    Raises DataError naming the file and the first line that `parse` rejects.
    """
    for number, line in enumerate(lines(location, options), 1):
        try:
            entry = parse(line)
        except DAMAGE as error:
            first = (str(error).splitlines() or [""])[0]
            raise DataError(f"line {number:,} of {location} cannot be read: {first}") from error
        yield entry


def readable(
    location: str, parse: Callable[[bytes], Entry] = json.loads, options: Storage | None = None
) -> list[Entry]:
    """Return the entries before the first line that `parse` rejects."""
    found = []
    for line in lines(location, options):
        try:
            found.append(parse(line))
        except DAMAGE:
            break
    return found


def undamaged(location: str, parse: Callable[[bytes], Entry] = json.loads) -> list[Entry]:
    """Return the entries of a local file without those that `parse` rejects, each of which is named in the log."""
    found = []
    for number, line in enumerate(lines(location), 1):
        try:
            found.append(parse(line))
        except DAMAGE:
            log(f"warning: line {number:,} of {location} is damaged and is skipped")
    return found


def append(
    location: str, line: bytes, options: Storage | None = None, durable: bool = True, mode: int = 0o666
) -> None:
    """Append a line, given without its line end; create the file with `mode`, less the umask.

    Raises OSError where the disk refuses the line, and leaves no part of it behind.
    """
    if not storage.is_local(location):
        # Object stores cannot append.
        write(location, [*lines(location, options), line], options)
        return
    path = Path(storage.absolute(location))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Unbuffered, so that a full disk is noticed here.
    with open(os.open(path, os.O_RDWR | os.O_CREAT, mode), "r+b", buffering=0) as file:
        end = _end(file)
        file.truncate(end)
        file.seek(end)
        try:
            if file.write(line + b"\n") <= len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durable:
                os.fsync(file.fileno())
        except OSError:
            # Half a line would spoil the next one.
            file.truncate(end)
            raise
    if durable and end == 0:
        files.sync_folder(path.parent)


def write(location: str, written: Iterable[bytes], options: Storage | None = None) -> None:
    """Replace a file atomically by these lines, given without their line ends."""
    storage.write_bytes(location, b"".join(line + b"\n" for line in written), options)


def keep(location: str, wanted: Callable[[Any], bool]) -> None:
    """Drop the unwanted entries of a file, and damaged lines with a warning that names them."""
    if not storage.exists(location):
        return
    kept = []
    for number, line in enumerate(lines(location), 1):
        try:
            stays = wanted(json.loads(line))
        except DAMAGE:
            log(f"warning: line {number:,} of {location} is damaged and is dropped")
        else:
            kept += [line] if stays else []
    write(location, kept)


def _end(file: IO[bytes]) -> int:
    """Return the position at which the last complete line of a file ends."""
    position = file.seek(0, os.SEEK_END)
    while position:
        start = max(0, position - BLOCK)
        file.seek(start)
        found = file.read(position - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0
