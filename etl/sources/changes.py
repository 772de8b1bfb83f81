"""How the source files differ from those that were ingested, and whether only the new ones have to be read."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common import storage
from common.errors import DataError
from common.progress import say
from common.storage import Storage
from etl.lake.log import open_table
from etl.sources.files.listing import SourceFile
from etl.sources.files.pieces import Piece
from provenance.checksums import sha256_of
from schemas.config import Configuration
from schemas.tables import Layout

SHOWN = 3
"""Files that a message names."""


@dataclass(frozen=True)
class SourceChanges:
    """How the sources differ from what bronze/sources says of them."""

    new: list[Piece]
    """The pieces of files that were not there."""
    touched: list[SourceFile]
    """Files with another time of modification and the same content."""
    changed: list[str]
    vanished: list[str]
    known_sources: frozenset[int]
    """Sources of which a file could be read before."""
    moves_twins: bool
    """Whether a new file has the path of a known one of a later source: then the ids that are made from it change."""


def source_changes(config: Configuration, pieces: Sequence[Piece]) -> SourceChanges:
    """Compares files by path, size and, where the time of modification is another, SHA-256."""
    table = open_table(Layout.of(config).sources, config.storage)
    columns = ["source_index", "source_path", "bytes", "sha256", "modified", "status"]
    rows = [] if table is None else table.to_pyarrow_dataset().to_table(columns=columns).to_pylist()
    known = {(row["source_index"], row["source_path"]): row for row in rows}
    files = {(piece.file.source_index, piece.file.path): piece.file for piece in pieces}
    altered = [file for key, file in files.items() if key in known and not _looks_same(file, known[key])]
    touched: list[SourceFile] = []
    changed: list[str] = []
    for file in altered:
        if _is_same(file, known[file.source_index, file.path], config.storage):
            touched.append(file)
        else:
            changed.append(file.path)
    new = [piece for piece in pieces if (piece.file.source_index, piece.file.path) not in known]
    later = {(path, index) for index, path in known}
    return SourceChanges(
        new,
        touched,
        changed,
        [path for index, path in known if (index, path) not in files],
        frozenset(index for (index, _), row in known.items() if row["status"] == "read"),
        any(
            (piece.file.path, index) in later
            for piece in new
            for index in range(piece.file.source_index + 1, len(config.source))
        ),
    )


def _looks_same(file: SourceFile, row: Mapping[str, Any]) -> bool:
    """Whether a file is as it was ingested, by its size and its time of modification."""
    if _cannot_be_read(file) or row["sha256"] is None:
        return _cannot_be_read(file) and row["sha256"] is None
    return bool(file.bytes == row["bytes"] and file.modified == row["modified"])


def _is_same(file: SourceFile, row: Mapping[str, Any], options: Storage) -> bool:
    """Whether one that does not look so has the same content all the same."""
    if _cannot_be_read(file) or row["sha256"] is None or file.bytes != row["bytes"]:
        return False
    remedy = "check its permissions and the disk, or take it out of the source"
    return bool(sha256_of(file.location, options, remedy=remedy)[0] == row["sha256"])


def _cannot_be_read(file: SourceFile) -> bool:
    return file.obstacle is not None or (
        storage.is_local(file.location) and not os.access(file.location, os.R_OK)
    )


def may_go_on(changes: SourceChanges, config: Configuration) -> bool:
    """Whether only the new files have to be read, by the policies for files that have changed or vanished.

    Says which these are. Raises DataError where one of them is "stop".
    """
    settings = config.increments
    for what, paths, policy in (
        ("changed", changes.changed, settings.changed),
        ("vanished", changes.vanished, settings.vanished),
    ):
        if not paths:
            continue
        shown = ", ".join(paths[:SHOWN]) + (" …" if len(paths) > SHOWN else "")
        told = f"{len(paths):,} files of the sources have {what} since they were ingested ({shown})"
        if policy == "stop":
            raise DataError(
                f"{told}: put them back, or say by increments.{what} whether their records stay as they were ingested "
                '("keep") or everything is made anew ("rebuild")'
            )
        say(f"note: {told}: " + ("their records stay" if policy == "keep" else "everything is made anew"))
        if policy == "rebuild":
            return False
    return True
