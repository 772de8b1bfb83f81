"""Files that a source's pattern names.

`*`, `?` and `[…]` match within one segment of a path, `**` any number of folders, `{a,b}` either. As in a shell, a
wildcard matches no leading dot, and `**` does not follow links to folders. Folders at the beginning of a pattern that
are there under that very name are taken as they are, brackets and braces included; `[[]` is a bracket of a name
anywhere. A matching entry that must not be opened (a link out of the source, a link to nowhere, a named pipe) is listed
with the reason.

A folder that cannot be listed is an error, lest its records go missing silently. wcmatch 12 and fsspec's own glob
skip such folders, wcmatch knows no remote file systems, fsspec no braces and no hidden files: hence our own walk.
"""

import os
import posixpath
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import translate
from itertools import pairwise
from typing import Any, NamedTuple
from urllib.parse import unquote

from fsspec import AbstractFileSystem

from common import storage
from common.errors import DataError, UsageError
from common.storage import Storage
from schemas.sources import SourceSettings

WILDCARD = re.compile(r"[*?\[{]")
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
"""Folder name that stands for a null."""


class Obstacle(NamedTuple):
    """Reason and detail, for the quarantine, why a file is not read."""

    reason: str
    detail: str


OUTSIDE = Obstacle(
    "outside_of_source",
    "a link leads out of the source's root; `follow_links = true` in its [[source]] reads such files",
)
NO_FILE = Obstacle("unreadable_file", "it is a named pipe, a socket or a device, and no file")


class Member(NamedTuple):
    """File in an archive."""

    name: str
    place: int
    """Number in the directory of a zip; byte at which it begins in the content of a tar."""
    size: int
    stored: int
    """Bytes that it takes in a zip, or that the whole tar has."""
    in_tar: bool = False
    compressed: bool = False
    """It lies in a compressed tar."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """File of a source as it was found; `path` is relative to the source's root and stands in the tables."""

    source_index: int
    path: str
    location: str
    bytes: int
    modified: datetime | None
    twin: int = 0
    """Number of earlier sources that have a file with the same relative path; it keeps derived ids apart."""
    obstacle: Obstacle | None = None
    member: Member | None = None
    """File of the archive at `location` that this one is; size and hash are those of its content."""
    columns: tuple[tuple[str, str | None], ...] = ()
    """Columns that the file's folders name, with the value that all its records have."""


class FolderEntry(NamedTuple):
    """Entry of a folder."""

    name: str
    path: str
    is_folder: bool
    is_link: bool
    """True where the entry that a wildcard found, or a folder on the way to it, is a link."""
    info: Mapping[str, Any] = {}
    """File facts from a remote file system."""


def list_source(
    source: SourceSettings, source_index: int, options: Storage | None = None
) -> list[SourceFile]:
    """Return the files of a source in the order of their relative paths.

    Raises DataError where the pattern names none.
    """
    file_system, _ = storage.filesystem(_fixed_part(source.path), options)
    local = storage.is_local(source.path)
    pattern = storage.absolute(source.path)
    if not local:  # the file system names its files without the scheme
        pattern = file_system._strip_protocol(pattern)
    base = _existing_part(file_system, pattern, local)
    root = base
    if source.root is not None:
        root = storage.absolute(source.root)
        root = root if local else file_system._strip_protocol(root)
    found: dict[str, SourceFile] = {}
    for entry in _matches(file_system, pattern, base, local):
        path, relative = entry.path, _relative(entry.path, root)
        if relative is None:
            raise UsageError(
                f"{_shown(path)} is not below the root {root} of the source {source.path!r}; "
                "correct the source's `root`"
            )
        location = path if local else str(file_system.unstrip_protocol(path))
        if relative in found and found[relative].location != location:
            raise DataError(
                f"two files of the source {source.path!r} are called {relative} once the bytes of one that are not "
                "UTF-8 are written out: rename one of them"
            )
        size, modified, obstacle = _local_facts(path) if local else _remote_facts(entry.info)
        if obstacle is None and entry.is_link and not source.follow_links and not _is_below(path, root):
            obstacle = OUTSIDE
        columns = partition_columns(relative)
        found[relative] = SourceFile(
            source_index, relative, location, size, modified, obstacle=obstacle, columns=columns
        )
    if not found:
        hint = "; a bracket that is part of a name is written [[]" if "[" in source.path else ""
        raise DataError(
            f"the pattern {source.path!r} of a [[source]] matches no file (looked for {pattern}{hint})"
        )
    return [found[path] for path in sorted(found)]


def partition_columns(path: str) -> tuple[tuple[str, str | None], ...]:
    """Return the columns that the folders of a relative path name, as Hive and Spark write them: `label=pos/a.json`.

    Characters may be percent-encoded; of two folders of a name, the inner one counts.
    """
    folders = [folder.split("=", 1) for folder in path.split("/")[:-1] if "=" in folder.strip("=")]
    named = {_percent_decoded(name): _percent_decoded(value) for name, value in folders if name}
    return tuple((name, None if value == HIVE_NULL else value) for name, value in named.items())


def _percent_decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:  # Spark encodes characters up to U+00FF as one byte
        return unquote(text, "latin-1")


def _fixed_part(path: str) -> str:
    """Return the folder before the first wildcard of a pattern, or that of a single file."""
    match = WILDCARD.search(path)
    folder = path[: match.start()] if match else path
    return posixpath.dirname(folder) or ("/" if folder.startswith("/") else ".")


def _existing_part(file_system: AbstractFileSystem, pattern: str, local: bool) -> str:
    """Return the folder from which a pattern is matched: what is before the first wildcard.

    Brackets and braces are no wildcards in the name of a folder that is there.
    """
    base = _fixed_part(pattern)
    for segment in pattern[len(base) :].strip("/").split("/")[:-1]:
        below = posixpath.join(base, segment)
        entry = None if re.search(r"[*?]", segment) else _entry(file_system, below, local)
        if entry is None or not entry.is_folder:
            break
        base = below
    return base


def _relative(path: str, root: str) -> str | None:
    prefix = root if root.endswith("/") else root + "/"
    return _shown(path[len(prefix) :]) if path.startswith(prefix) else None


def _is_below(path: str, root: str) -> bool:
    """Return True where a local file lies below a folder once all links are resolved."""
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(root), ""))


def _shown(path: str) -> str:
    """Return a path as valid Unicode: bytes of a local file name that are not UTF-8 become `\\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _matches(file_system: AbstractFileSystem, pattern: str, base: str, local: bool) -> Iterator[FolderEntry]:
    """Yield the files that a pattern matches, some possibly twice."""
    literal = _entry(file_system, pattern, local)
    if literal is not None and not literal.is_folder:
        yield literal
        return
    if literal is not None:
        raise UsageError(
            f"{pattern} is a folder; write a pattern for the files in it, e.g. {pattern}/**/*.jsonl"
        )
    for alternative in expand_braces(pattern[len(base) :].lstrip("/")):
        wildcard = WILDCARD.search(alternative)
        fixed = posixpath.dirname(alternative[: wildcard.start()] if wildcard else alternative)
        rest = alternative[len(fixed) :].strip("/").split("/")
        yield from _walk(file_system, posixpath.join(base, fixed) if fixed else base, rest, local)


def expand_braces(pattern: str) -> list[str]:
    """Expand `{a,b}` in a pattern, nested braces included; leave unbalanced braces as they are."""
    depth, start = 0, -1
    commas: list[int] = []
    for place, character in enumerate(pattern):
        if character == "{":
            if depth == 0:
                start, commas = place, []
            depth += 1
        elif character == "," and depth == 1:
            commas.append(place)
        elif character == "}" and depth:
            depth -= 1
            if depth == 0:
                cuts = [start, *commas, place]
                parts = [pattern[a + 1 : b] for a, b in pairwise(cuts)]
                tails = expand_braces(pattern[place + 1 :])
                return [pattern[:start] + p + t for part in parts for p in expand_braces(part) for t in tails]
    return [pattern]


def _walk(
    file_system: AbstractFileSystem, folder: str, segments: list[str], local: bool
) -> Iterator[FolderEntry]:
    """Yield the files below `folder` whose path matches the segments of a pattern."""
    segment, rest = segments[0], segments[1:]
    if segment == "**":
        if rest:
            yield from _walk(file_system, folder, rest, local)
        for entry in _entries(file_system, folder, local):
            if entry.name.startswith("."):
                continue
            if entry.is_folder and not entry.is_link:
                yield from _walk(file_system, entry.path, segments, local)
            elif not entry.is_folder and not rest:
                yield entry
        return
    matches = re.compile(translate(segment)).match
    hidden = segment.startswith(".")
    for entry in _entries(file_system, folder, local):
        if (entry.name.startswith(".") and not hidden) or not matches(entry.name):
            continue
        if entry.is_folder and rest:
            below = _walk(file_system, entry.path, rest, local)
            yield from (e._replace(is_link=True) for e in below) if entry.is_link else below
        elif not entry.is_folder and not rest:
            yield entry


def _entries(file_system: AbstractFileSystem, folder: str, local: bool) -> Iterator[FolderEntry]:
    """List a folder; nothing where there is none. Raises DataError where it cannot be listed."""
    try:
        if local:
            with os.scandir(folder) as entries:
                yield from [FolderEntry(e.name, e.path, _is_folder(e), e.is_symlink()) for e in entries]
            return
        for info in file_system.ls(folder, detail=True):
            if info["name"].rstrip("/") != folder.rstrip("/"):
                yield _remote_entry(info)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise DataError(
            f"the folder {_shown(folder)} cannot be listed: {error.strerror or error}; check its permissions, or "
            "let the `path` of the [[source]] leave it out"
        ) from error


def _entry(file_system: AbstractFileSystem, path: str, local: bool) -> FolderEntry | None:
    if local:  # a named file may be a link
        return FolderEntry("", path, os.path.isdir(path), False) if os.path.exists(path) else None
    try:
        return _remote_entry(file_system.info(path))._replace(path=path)
    except OSError:
        return None


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Return True for a folder or a link to one; False for a link to itself, whose entry would raise an error."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _local_facts(path: str) -> tuple[int, datetime | None, Obstacle | None]:
    """Return the size, the time of modification, and any reason not to read a local file."""
    try:
        status = os.stat(path)
    except OSError as error:  # a link to nowhere or to itself, or a file that has just gone
        return 0, None, Obstacle("unreadable_file", f"it leads to no file ({error.strerror})")
    try:
        modified = datetime.fromtimestamp(status.st_mtime, UTC)
    except (
        OverflowError,
        OSError,
        ValueError,
    ):  # outside the years 1 to 9999, as damaged file systems report
        modified = None
    return status.st_size, modified, None if stat.S_ISREG(status.st_mode) else NO_FILE


def _remote_entry(info: Mapping[str, Any]) -> FolderEntry:
    path = str(info["name"]).rstrip("/")
    return FolderEntry(posixpath.basename(path), path, info.get("type") == "directory", False, info)


def _remote_facts(info: Mapping[str, Any]) -> tuple[int, datetime | None, None]:
    times = [
        info[key] for key in ("mtime", "LastModified", "last_modified", "updated", "created") if key in info
    ]
    return int(info.get("size") or 0), next((t for t in times if isinstance(t, datetime)), None), None
