"""Access to paths and URIs, and the translation of `[storage]` for each library that opens them.

A location is a local path (relative to the working folder) or a URI of any scheme that fsspec knows.
"""

import os
import posixpath
import re
import uuid
from collections.abc import Mapping
from pathlib import Path

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from common import files
from common.errors import DataError, UsageError
from common.sections import Section


class Storage(Section):
    """`[storage]`: credentials and options for the three libraries that open URIs, each in its own vocabulary."""

    fsspec: dict[str, str] = {}
    hadoop: dict[str, str] = {}
    delta: dict[str, str] = {}


def is_local(location: str) -> bool:
    """Return True for a path without a scheme, and for `file:` URIs."""
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", location)
    return scheme is None or scheme[1].lower() in ("file", "local")


def absolute(location: str) -> str:
    """Return a local path as an absolute path without scheme, a URI without trailing slash."""
    if is_local(location):
        return os.path.abspath(
            location.removeprefix("local://").removeprefix("file://").removeprefix("file:")
        )
    return location.rstrip("/")


def join(location: str, *parts: str) -> str:
    """Join path segments to a path or URI."""
    return posixpath.join(location.rstrip("/") if location != "/" else location, *parts)


def parent(location: str) -> str:
    """Return the folder of a file, absolute; of a symbolic link, that of the file behind it."""
    place = absolute(location)
    return posixpath.dirname(os.path.realpath(place) if is_local(place) and os.path.islink(place) else place)


def refer(location: str, folder: str) -> str:
    """Return a location as a reference relative to a folder, or itself where the two are on different systems."""
    if is_local(location) != is_local(folder):
        return location
    if is_local(location):
        return os.path.relpath(absolute(location), absolute(folder))
    (scheme, there), (other, here) = (place.split("://", 1) for place in (location, folder))
    if (scheme, there.split("/")[0]) != (other, here.split("/")[0]):
        return location
    return posixpath.relpath(f"/{there}", f"/{here}")


def follow(reference: str, folder: str) -> str:
    """Return the location that a reference of `refer` names; a location that is absolute stays as it is."""
    if "://" in reference or not is_local(reference):
        return reference
    scheme, separator, path = folder.rpartition("://")
    return scheme + separator + posixpath.normpath(posixpath.join(path, reference))


def filesystem(location: str, storage: Storage | None = None) -> tuple[AbstractFileSystem, str]:
    """Return the fsspec file system of a location and the path in it.

    Raises UsageError for a scheme without an implementation.
    """
    if is_local(location):  # fsspec would take `::` in a path for a chain of file systems
        return LocalFileSystem(), absolute(location)
    options: Mapping[str, str] = storage.fsspec if storage is not None else {}
    try:
        file_system, path = fsspec.core.url_to_fs(absolute(location), **options)
    except (ValueError, ImportError) as error:
        raise UsageError(
            f"{location} cannot be opened: {error}; install the fsspec package of its scheme"
        ) from error
    return file_system, path


def read_bytes(location: str, storage: Storage | None = None) -> bytes:
    """Return the content of a file. Raises DataError naming the file when it is missing or unreadable."""
    file_system, path = filesystem(location, storage)
    try:
        with file_system.open(path, "rb") as file:
            return bytes(file.read())
    except FileNotFoundError as error:
        raise DataError(f"the file {location} is missing") from error
    except OSError as error:
        raise DataError(f"the file {location} cannot be read: {error}") from error


def write_bytes(location: str, content: bytes, storage: Storage | None = None) -> None:
    """Write a file atomically: under another name first, then renamed."""
    if is_local(location):
        files.write(Path(absolute(location)), content)
        return
    file_system, path = filesystem(location, storage)
    file_system.makedirs(posixpath.dirname(path), exist_ok=True)
    attempt = posixpath.join(posixpath.dirname(path), f".{posixpath.basename(path)}.{uuid.uuid4().hex}.part")
    with file_system.open(attempt, "wb") as file:
        file.write(content)
    file_system.mv(attempt, path)


def hadoop_options(storage: Storage) -> dict[str, str]:
    """Return `[storage.hadoop]` as Spark configuration: its keys with the prefix `spark.hadoop.`."""
    return {f"spark.hadoop.{key}": value for key, value in storage.hadoop.items()}


def delta_options(storage: Storage | None) -> dict[str, str] | None:
    """Return `[storage.delta]`, the `storage_options` of the deltalake package; None when empty."""
    return dict(storage.delta) if storage is not None and storage.delta else None


def exists(location: str, storage: Storage | None = None) -> bool:
    """Return True where a file or folder exists."""
    file_system, path = filesystem(location, storage)
    return bool(file_system.exists(path))
