"""Cutting of source files into pieces, and grouping of the pieces into tasks of similar cost."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from common.errors import RinglakeError
from etl.sources.content.encodings import UTF_8, encoding_of
from etl.sources.content.listing import SourceFile
from etl.sources.content.streams import FIRST_BYTES, NO_TEXT, compression_of, open_plain
from etl.sources.files.formats import SourceFormat, formats
from schemas.config import Configuration
from schemas.sources import SourceSettings, TextSettings

LONGEST_BEGINNING = 16
TASK_BYTES = 32 << 20
FILE_COST = 4 << 10
"""Cost of opening a file, in bytes that could have been read meanwhile."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Unit of work on a file: read its records from `start` to `end`, or only hash it.

    `end` is None for a file that is read as a whole.
    """

    file: SourceFile
    start: int = 0
    end: int | None = None
    hash_only: bool = False

    @property
    def cost(self) -> int:
        size = self.file.bytes if self.end is None else self.end - self.start
        # A file that is only hashed costs its reading, which is a small part of the cost of parsing it.
        return FILE_COST + (size // 4 if self.hash_only else size)


def list_pieces(config: Configuration) -> list[Piece]:
    """Return the pieces of all sources, in the order of the sources and of the paths in each."""
    pieces: list[Piece] = []
    seen: dict[str, int] = {}
    for index, source in enumerate(config.source):
        source_format = formats()[source.format]
        for file in source_format.files(source, index, config.storage):
            twin = seen.get(file.path, 0)
            seen[file.path] = twin + 1
            twins = replace(file, twin=twin) if twin else file
            pieces.extend(cut(twins, source_format, _may_be_cut(twins, source, source_format, config)))
    return pieces


def source_bytes(config: Configuration) -> int | None:
    """Return the bytes of all source files, compressed ones as stored; None where they cannot be listed."""
    try:
        return sum(
            file.bytes
            for index, source in enumerate(config.source)
            for file in formats()[source.format].files(source, index, config.storage)
        )
    except RinglakeError:  # for `ingest` to report; later stages do not need it
        return None


def _may_be_cut(
    file: SourceFile, source: SourceSettings, source_format: SourceFormat, config: Configuration
) -> bool:
    """Return False for a file, large enough to be cut, that is compressed or has another encoding by its beginning."""
    size = source_format.piece_bytes
    if (
        not isinstance(source, TextSettings)
        or size is None
        or file.bytes <= size
        or file.obstacle is not None
    ):
        return file.member is None
    try:
        with open_plain(file.location, config.storage) as opened:
            beginning = opened.read(LONGEST_BEGINNING)
    except OSError:  # each piece says so
        return True
    plain = not any(beginning.startswith(first) for first, _ in (*FIRST_BYTES, *NO_TEXT))
    return plain and encoding_of(source.encoding, beginning) == UTF_8


def cut(file: SourceFile, source_format: SourceFormat, may_be_cut: bool = True) -> Iterator[Piece]:
    """Yield the pieces of a file: byte ranges of equal size and one for the hash, or the file as a whole."""
    if file.obstacle is not None:
        yield Piece(file)
        return
    size = source_format.piece_bytes
    plain = source_format.random_access or compression_of(file.path) is None
    if size is not None and may_be_cut and plain and file.bytes > size:
        count = -(-file.bytes // size)
        bounds = [file.bytes * i // count for i in range(count + 1)]
        yield from (Piece(file, a, b) for a, b in pairwise(bounds))
        yield Piece(file, hash_only=True)
        return
    yield Piece(file)
    if source_format.random_access:
        yield Piece(file, hash_only=True)


def group(pieces: Iterable[Piece], cores: int) -> list[list[Piece]]:
    """Group consecutive pieces into tasks: about `TASK_BYTES` each, or less so that each core has four."""
    pieces = list(pieces)
    target = min(TASK_BYTES, max(sum(piece.cost for piece in pieces) // (4 * cores), 1 << 20))
    tasks: list[list[Piece]] = []
    cost = target
    for piece in pieces:
        if cost >= target:
            tasks.append([])
            cost = 0
        tasks[-1].append(piece)
        cost += piece.cost
    return tasks
