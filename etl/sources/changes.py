"""Differences between the source files and those ingested before, and the decision to read only the new ones."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common import storage
from common.errors import DataError
from common.progress import log
from common.storage import Storage
from etl.lake.log import open_table
from etl.sources.content.archives import stream_of
from etl.sources.content.listing import SourceFile
from etl.sources.files.pieces import Piece
from provenance.checksums import sha256_of
from schemas.config import Configuration
from schemas.tables import Layout

SHOWN = 3
"""Files that a message names."""


@dataclass(frozen=True)
class SourceChanges:
    """Differences between the sources and bronze/sources."""

    new: list[Piece]
    """Pieces of new files."""
    touched: list[SourceFile]
    """Files with another time of modification and the same content."""
    changed: list[str]
    vanished: list[str]
    known_sources: frozenset[int]
    """Sources with a file that was readable before."""
    moves_twins: bool
    """True where a new file has the path of a known one of a later source, which changes the ids derived from it."""


def source_changes(config: Configuration, pieces: Sequence[Piece]) -> SourceChanges:
    """Compare files by path and size, and by SHA-256 where the time of modification differs."""
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
    """Return True where a file has the size and time of modification that it was ingested with."""
    if _cannot_be_read(file) or row["sha256"] is None:
        return _cannot_be_read(file) and bool(row["sha256"] is None)
    return bool(file.bytes == row["bytes"] and file.modified == row["modified"])


def _is_same(file: SourceFile, row: Mapping[str, Any], options: Storage) -> bool:
    """Return True where a file that looks changed still has the same content."""
    if _cannot_be_read(file) or row["sha256"] is None or file.bytes != row["bytes"]:
        return False
    if file.member is not None:
        with stream_of(file, options) as stream:
            stream.finish()
            return bool(stream.sha256 == row["sha256"])
    remedy = "check its permissions and the disk, or take it out of the source"
    return bool(sha256_of(file.location, options, remedy=remedy)[0] == row["sha256"])


def _cannot_be_read(file: SourceFile) -> bool:
    return file.obstacle is not None or (
        storage.is_local(file.location) and not os.access(file.location, os.R_OK)
    )


def may_go_on(changes: SourceChanges, config: Configuration) -> bool:
    """Decide by the policies for changed and vanished files whether to read only the new files; log those files.

    Raises DataError where the policy of one of them is "stop".
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
                f"{told}: restore them, or let increments.{what} decide: the ingested records stay "
                '("keep") or everything is rebuilt ("rebuild")'
            )
        log(f"note: {told}: " + ("their records stay" if policy == "keep" else "everything is rebuilt"))
        if policy == "rebuild":
            return False
    return True
