"""Atomic writing of local files."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path

_GONE = "something else removed files there: nothing else may write to this folder or delete from it"
REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room, or raise the quota",
    errno.EACCES: "mend the permissions",
    errno.EPERM: "mend the permissions",
    errno.EROFS: "it is mounted read-only; mount it writable, or write elsewhere",
    errno.ENOENT: _GONE,
    errno.ENOTDIR: _GONE,
    errno.ESTALE: _GONE,
}
"""Ways to mend an error of the file system."""


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[BufferedRandom]:
    """Open a file for writing that replaces `path` when the block ends without an error; create its folder.

    The file can be read as well. With `durable` it survives a power failure once the block has ended. Raises OSError
    and leaves the previous content in place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A unique name, so that two writers of one file do not write into each other's.
    attempt = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with attempt.open("w+b") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        attempt.replace(path)
    finally:
        attempt.unlink(missing_ok=True)
    if durable:
        sync_folder(path.parent)


def told(error: OSError) -> str:
    """Say which file could not be written or read, why, and what to do."""
    where = f"{error.filename}: " if error.filename else ""
    remedy = REMEDIES.get(error.errno or 0)
    return f"{where}{error.strerror or error}{f'; {remedy}' if remedy else ''}"


def write(path: Path, content: bytes, durable: bool = True) -> None:
    """Write a whole file atomically, with the guarantees of `replacing`."""
    with replacing(path, durable) as file:
        file.write(content)


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder durable, where its file system can: some on networks refuse it for folders."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
