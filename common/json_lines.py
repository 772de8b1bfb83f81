"""Files of JSON lines, which grow by a line at a time.

A last line without an end is what an interruption left of one: it is no entry, and removed before the next is added.
"""

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from common import files, storage
from common.errors import DataError
from common.storage import Storage

Entry = TypeVar("Entry")
BLOCK = 1 << 12


def lines(location: str, options: Storage | None = None) -> list[bytes]:
    """The whole lines of a file, without their ends; none where there is no file."""
    if not storage.exists(location, options):
        return []
    return storage.read_bytes(location, options).split(b"\n")[:-1]


def read(
    location: str, parse: Callable[[bytes], Entry] = json.loads, options: Storage | None = None
) -> Iterator[Entry]:
    """The entries of a file. Raises DataError naming the file and the first line in which `parse` finds none."""
    for number, line in enumerate(lines(location, options), 1):
        try:
            entry = parse(line)
        except (ValueError, TypeError, LookupError) as error:
            first = (str(error).splitlines() or [""])[0]
            raise DataError(f"line {number:,} of {location} cannot be read: {first}") from error
        yield entry


def readable(
    location: str, parse: Callable[[bytes], Entry] = json.loads, options: Storage | None = None
) -> list[Entry]:
    """The entries before the first line in which `parse` finds none."""
    found = []
    for line in lines(location, options):
        try:
            found.append(parse(line))
        except (ValueError, TypeError, LookupError):
            break
    return found


def append(
    location: str, line: bytes, options: Storage | None = None, durable: bool = True, mode: int = 0o666
) -> None:
    """Adds a line, given without its end; creates the file with `mode`, less the umask.

    Raises OSError where the disk does not take it; no part of it is then there.
    """
    if not storage.is_local(location):
        # Object stores know no appending.
        write(location, [*lines(location, options), line], options)
        return
    path = Path(storage.absolute(location))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Unbuffered, so that what a full disk does not take is known here.
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
    """Replaces a file by these lines, given without their ends, as a whole or not at all."""
    storage.write_bytes(location, b"".join(line + b"\n" for line in written), options)


def keep(location: str, wanted: Callable[[Any], bool]) -> None:
    """Drops the entries of a file that are not wanted. Raises DataError as `read` does."""
    if storage.exists(location):
        judged = read(location, lambda line: (line, wanted(json.loads(line))))
        write(location, [line for line, stays in judged if stays])


def _end(file: IO[bytes]) -> int:
    """Where the last whole line of a file ends."""
    position = file.seek(0, os.SEEK_END)
    while position:
        start = max(0, position - BLOCK)
        file.seek(start)
        found = file.read(position - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0
