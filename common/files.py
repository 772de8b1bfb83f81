"""Atomic writing of local files."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[BufferedRandom]:
    """A file to write that takes the place of `path` when the block ends without an error; makes the folder.

    It can be read too. A durable one survives a power failure from then on. Raises OSError; what was there before is
    then still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Its name is its own, so that two writers of one file do not write into each other's.
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


def write(path: Path, content: bytes, durable: bool = True) -> None:
    """Writes a whole file as `replacing` does."""
    with replacing(path, durable) as file:
        file.write(content)


def sync_folder(folder: Path) -> None:
    """Makes the renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
