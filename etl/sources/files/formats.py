"""Base of every source format, and the registry of formats.

Accounting: the sizes of all rows that a format reads from a file add up to its content, in bytes of the decompressed
file, or in rows where the format has random access. `ingest` checks that of each file.
"""

import functools
import io
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Self

from common import kinds
from common.storage import Storage
from etl.sources.content.archives import expanded, stream_of
from etl.sources.content.encodings import UTF_8, Transcoded, detected, encoding_of, likely, of_null_bytes
from etl.sources.content.listing import SourceFile, list_source
from etl.sources.content.streams import CHUNK, MAX_RAW_BYTES, SourceStream
from etl.sources.contract import Contract, WithNames
from schemas.kinds import SOURCES
from schemas.sources import SourceSettings, TextSettings

PIECE_BYTES = 32 << 20
LOOKED_BYTES = 4 << 10
"""Bytes of the beginning of a file that show NUL bytes, if it has any throughout."""
INVALID_UTF_8 = "invalid_utf8"
LABELS = "labels"
"""Rule that skips a file whose rows belong to the records of other files."""


class Found(NamedTuple):
    """Record as it stands in a file: its byte position and length there, its raw bytes, its columns.

    The length has no line end, and is 0 where the format has random access: there each record is one row.
    """

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
    size: int | None = None
    """Bytes or rows of the content that it stands for; None for the length of `raw`, one row, or 0 where damaged."""


class Skipped(NamedTuple):
    """Bytes (or rows) of the content that are no record, with the rule that says so: blank_line, header, line_end, …

    A format sums them up for a part, and yields one for each rule.
    """

    rule: str
    size: int


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
        encoding: str = UTF_8,
        file: SourceFile | None = None,
    ) -> None:
        """Create a part; `listed` is the size of the file in bytes as it was listed, `encoding` the configured one."""
        self.location, self.options, self.start, self.end = location, options, start, end
        self.max_expansion, self.listed = max_expansion, listed
        self.setting = encoding
        self.file = file or SourceFile(0, location, location, listed, None)
        self.encoding: str | None = None
        """Encoding of the content, once it is opened."""
        self.stream: SourceStream | None = None
        self.transcoded: Transcoded | None = None
        """Content as UTF-8, where it has another encoding."""
        self.suspected: str | None = None
        """UTF-16 or UTF-32 that a file read as UTF-8 is by the look of it."""
        self._likely: str | None = None
        self.rows: int | None = None
        """Rows of the part, told by a format with random access."""
        self.lines: int | None = None
        """Lines of all its records, told by a format whose records may have several; None: one each."""
        self._reader: io.BufferedReader | None = None

    @classmethod
    def of(
        cls,
        file: SourceFile,
        settings: SourceSettings,
        options: Storage | None,
        start: int = 0,
        end: int | None = None,
    ) -> Self:
        """Return a part of a file of a source."""
        encoding = settings.encoding if isinstance(settings, TextSettings) else UTF_8
        return cls(file.location, options, start, end, settings.max_expansion, file.bytes, encoding, file)

    def open(self) -> tuple[SourceStream | Transcoded, io.BufferedReader]:
        """Open the content as UTF-8, from byte `start - 1`, which shows whether a line begins at `start`, or from 0."""
        self.stream = self._stream(max(self.start - 1, 0))
        # Referenced here, since it closes the stream when it is collected.
        self._reader = io.BufferedReader(self.stream, CHUNK)
        self.encoding = UTF_8 if self.start else encoding_of(self.setting, self._reader.peek(CHUNK))
        if self.encoding is None:
            with self._stream() as whole:
                self.encoding = detected(whole)
        if self.encoding == UTF_8:
            if not self.start:
                self.suspected = of_null_bytes(self._reader.peek(CHUNK)[:LOOKED_BYTES])
            return self.stream, self._reader
        self.transcoded = Transcoded(self.stream, self._reader, self.encoding)
        self._reader = io.BufferedReader(self.transcoded, CHUNK)
        return self.transcoded, self._reader

    def open_binary(self) -> tuple[SourceStream, io.BufferedReader]:
        """Open the content as it is, whatever it holds."""
        self.stream = stream_of(self.file, self.options, 0, self.max_expansion, binary=True)
        self._reader = io.BufferedReader(self.stream, CHUNK)
        return self.stream, self._reader

    def _stream(self, start: int = 0) -> SourceStream:
        return stream_of(self.file, self.options, start, self.max_expansion)

    def explained(self, row: "Rejected") -> "Rejected":
        """Return a rejected row; its detail names the encoding that the file seems to have, where that is the cause."""
        if self.suspected is not None:
            hint = f"the file looks like {self.suspected}: source.encoding = "
            return replace(row, detail=f'{row.detail}; {hint}"{self.suspected}"')
        if row.reason != INVALID_UTF_8 or self.stream is None:
            return row
        if self.transcoded is not None:
            return replace(
                row, detail=f"a byte of the record is not {self.encoding}, the encoding of the file"
            )
        try:
            row.raw.decode()
        except UnicodeDecodeError as error:
            detail = f"byte 0x{row.raw[error.start]:02X} at {row.position + error.start:,} is not UTF-8"
        else:
            return row
        if self._likely is None:
            self._likely = likely(self.beginning(), row.raw) or ""
        if self._likely:
            detail += f': this looks like {self._likely}: source.encoding = "{self._likely}"'
        return replace(row, detail=detail)

    def in_file(self, row: "Found | Rejected") -> "Found | Rejected":
        """Return a row with its position and length in the file, which are not those in the UTF-8 of other encodings.

        Call it with the rows in the order of the file.
        """
        if self.transcoded is None:
            return row
        position = self.transcoded.position(row.position)
        if isinstance(row, Rejected):
            return replace(row, position=position)
        end = self.transcoded.position(row.position + row.length)
        return row._replace(position=position, length=end - position)

    def beginning(self) -> bytes:
        """Return the beginning of the whole file's content, up to CHUNK bytes."""
        with self._stream() as stream:
            return io.BufferedReader(stream, CHUNK).peek(CHUNK)

    def content(self) -> int | None:
        """Return the size of the content that has been read: bytes of a whole file, rows of a part.

        None where it is unknown: of a range of bytes, of which only the whole file's size is known.
        """
        if self.rows is not None or self.stream is None or self._reader is None:
            return self.rows
        if self.end is not None:
            return None
        if self.stream.damage is None:
            while self._reader.read(CHUNK):  # what a format leaves unread belongs to the content all the same
                pass
        return self.stream.given if self.transcoded is None else self.transcoded.given

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
    ) -> Iterator[Found | Rejected | Skipped]:
        """Yield the records that begin in the part, each once; an unreadable stretch is one row marked `damaged`.

        Everything else in the part is `Skipped`, so that the sizes add up to those of the part.
        """

    def files(self, settings: SourceSettings, index: int, options: Storage | None = None) -> list[SourceFile]:
        """Return the files of the source with this number. Raises DataError where there are none."""
        files = list_source(settings, index, options)
        return files if self.random_access else expanded(files, options, settings.max_expansion)

    def columns(
        self, part: FilePart, settings: SourceSettings, contract: Contract
    ) -> Iterator[tuple[Collection[str], int]]:
        """Yield the columns of each record and its bytes, or once those of all where a header or schema names them.

        Nothing comes of a file that cannot be read, which is left to `read`.
        """
        for row in self.read(part, settings, contract):
            if isinstance(row, Skipped):
                yield (), row.size
            elif isinstance(row, Found):
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
        raw, size = raw[:MAX_RAW_BYTES], whole
    return Rejected(position, raw, reason, detail, size=size)


def skipped(**sizes: int) -> Iterator[Skipped]:
    """Yield what was skipped by each rule that skipped anything."""
    return (Skipped(rule, size) for rule, size in sizes.items() if size)


def damaged(stream: SourceStream | Transcoded, position: int, raw: bytes = b"") -> Rejected:
    """Return the one row for a file that is damaged from `position` on; `raw` begins an unfinished record."""
    detail = f"{stream.damage}: nothing can be read from byte {position:,} of its content on"
    size = max(stream.start + stream.given - position, 0)
    return Rejected(position, raw[:MAX_RAW_BYTES], stream.reason, detail, damaged=True, size=size)


def decode(raw: bytes, position: int) -> str | Rejected:
    """Decode strict UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        return rejected(
            position, raw, INVALID_UTF_8, f"byte {error.start:,} of the record is not valid UTF-8"
        )


def read_bounded(reader: io.BufferedReader, limit: int) -> tuple[bytes, int]:
    """Return the first `limit` bytes of a stream, and its total length in bytes."""
    content = reader.read(limit)
    size = len(content)
    if size == limit:
        while more := reader.read(1 << 20):
            size += len(more)
    return content, size
