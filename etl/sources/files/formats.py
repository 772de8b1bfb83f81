"""Base of every source format, and the registry of formats."""

import functools
import io
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from common import kinds
from common.storage import Storage
from etl.sources.contract import Contract, WithNames
from etl.sources.files.listing import SourceFile, list_source
from etl.sources.files.streams import CHUNK, MAX_RAW_BYTES, SourceStream
from schemas.kinds import SOURCES
from schemas.sources import SourceSettings

PIECE_BYTES = 32 << 20


class Found(NamedTuple):
    """Record as it stands in a file: its byte position and length there, its raw bytes, its columns."""

    position: int
    length: int
    raw: bytes
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Rejected:
    """Record that cannot be read. `damaged` marks the rest of a file that is unreadable from here on.

    Where nothing of a file can be read, each of its pieces gives the same row, at position 0.
    """

    position: int
    raw: bytes
    reason: str
    detail: str
    damaged: bool = False


class FilePart:
    """File, or the bytes [start, end) of one, that a format reads."""

    def __init__(
        self,
        location: str,
        options: Storage | None,
        start: int = 0,
        end: int | None = None,
        max_expansion: int | None = None,
        listed: int = 0,
    ) -> None:
        """Create a part; `listed` is the size of the file in bytes as it was listed."""
        self.location, self.options, self.start, self.end = location, options, start, end
        self.max_expansion, self.listed = max_expansion, listed
        self.stream: SourceStream | None = None
        self._reader: io.BufferedReader | None = None

    def open(self) -> tuple[SourceStream, io.BufferedReader]:
        """Open the content from byte `start - 1`, which shows whether a line begins at `start`, or from 0."""
        self.stream = SourceStream(
            self.location, self.options, max(self.start - 1, 0), self.max_expansion, self.listed
        )
        self._reader = io.BufferedReader(
            self.stream, CHUNK
        )  # referenced here, since it closes the stream when it is collected
        return self.stream, self._reader

    def beginning(self) -> bytes:
        """Return the beginning of the whole file's content, up to CHUNK bytes."""
        with SourceStream(self.location, self.options, 0, self.max_expansion, self.listed) as stream:
            return io.BufferedReader(stream, CHUNK).peek(CHUNK)

    def close(self) -> None:
        """Close what `open` opened."""
        if self._reader is not None:
            self._reader.close()


class SourceFormat(ABC):
    """Reader of the records of one file, or of a part of it."""

    name: ClassVar[str]
    piece_bytes: ClassVar[int | None] = None
    """Size in bytes of the ranges that plain files are cut into; None when each has to be read from its beginning."""
    random_access: ClassVar[bool] = False
    """The format does not read a file from beginning to end, so that its hash takes a separate pass."""

    @abstractmethod
    def read(
        self, part: FilePart, settings: SourceSettings, contract: Contract
    ) -> Iterator[Found | Rejected]:
        """Yield the records that begin in the part, each once; an unreadable stretch is one row marked `damaged`."""

    def files(self, settings: SourceSettings, index: int, options: Storage | None = None) -> list[SourceFile]:
        """Return the files of the source with this number. Raises DataError where there are none."""
        return list_source(settings, index, options)

    def columns(
        self, part: FilePart, settings: SourceSettings, contract: Contract
    ) -> Iterator[tuple[Collection[str], int]]:
        """Yield the columns of each record and its bytes, or once those of all where a header or schema names them.

        Nothing comes of a file that cannot be read, which is left to `read`.
        """
        for row in self.read(part, settings, contract):
            if isinstance(row, Found):
                nested = row.values.names() if isinstance(row.values, WithNames) else ()
                yield dict.fromkeys((*row.values, *nested)), row.length
            else:
                yield (), len(row.raw)


@functools.cache
def formats() -> dict[str, SourceFormat]:
    """Return all formats by their name in the configuration: `FORMAT` of the module of each kind in this folder."""
    return {kind: kinds.module("etl.sources.files", kind, "FORMAT").FORMAT for kind in SOURCES.classes}


def rejected(position: int, raw: bytes, reason: str, detail: str, size: int | None = None) -> Rejected:
    """Return a rejected record; cut its raw bytes to the limit of the quarantine, and say so in the detail."""
    whole = len(raw) if size is None else size
    if whole > MAX_RAW_BYTES:
        detail += f"; only the first {min(MAX_RAW_BYTES, len(raw)):,} of its {whole:,} bytes are kept here"
        raw = raw[:MAX_RAW_BYTES]
    return Rejected(position, raw, reason, detail)


def damaged(stream: SourceStream, position: int, raw: bytes = b"") -> Rejected:
    """Return the one row for a file that is damaged from `position` on; `raw` begins an unfinished record."""
    detail = f"{stream.damage}: nothing can be read from byte {position:,} of its content on"
    return Rejected(position, raw[:MAX_RAW_BYTES], stream.reason, detail, damaged=True)


def decode(raw: bytes, position: int) -> str | Rejected:
    """Decode strict UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        return rejected(
            position, raw, "invalid_utf8", f"byte {error.start:,} of the record is not valid UTF-8"
        )


def read_bounded(reader: io.BufferedReader, limit: int) -> tuple[bytes, int]:
    """Return the first `limit` bytes of a stream, and its total length in bytes."""
    content = reader.read(limit)
    size = len(content)
    if size == limit:
        while more := reader.read(1 << 20):
            size += len(more)
    return content, size
