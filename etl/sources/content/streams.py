"""Opening of source files: decompressed, hashed on the way, in bounded memory, with damage noted instead of raised."""

import bz2
import codecs
import hashlib
import io
import itertools
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple, Protocol, cast

import zstandard

from common import storage
from common.storage import Storage

CHUNK = 1 << 20
MAX_RECORD_BYTES = 200 << 20
"""Longest record that is read. A field of 64 MB passes even where most of its characters are escaped."""
MAX_RAW_BYTES = 64 << 20
"""Longest raw record that bronze/quarantine holds as a whole; longer ones are cut to it."""
CANNOT_OPEN, CANNOT_READ_ON = "the file cannot be opened", "the file cannot be read on"
XZ_MEMORY = 256 << 20
FREE_BYTES = 64 << 20
"""Content in bytes that any compressed file may have, however small it is."""


def content_limit(size: int, max_expansion: int | None) -> int | None:
    """Return the content in bytes that a file of `size` bytes may hold; None without a limit."""
    return None if max_expansion is None else max(FREE_BYTES, max_expansion * size)


class ArchiveError(Exception):
    """An archive is damaged, or holds what is not read; the message says so in half a sentence."""


class Decompressor(Protocol):
    """Common interface of zlib, bz2 and zstandard: one compressed member, fed piece by piece."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, /) -> bytes: ...


def _xz() -> Decompressor:
    # A dictionary may take up to 4 GiB; those of `xz -9` take 64 MiB.
    return cast(Decompressor, lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY))


def _zstd() -> Decompressor:
    return cast(Decompressor, zstandard.ZstdDecompressor().decompressobj())


DECOMPRESSORS: dict[str, tuple[Callable[[], Decompressor], int]] = {
    # Each with its number of compressed bytes to feed at a time. The densest input that each format allows grows
    # about 1,000-fold (gz), 25,000-fold (bz2, zst), so that one feeding stays below about 64 MB.
    ".gz": (lambda: cast(Decompressor, zlib.decompressobj(wbits=31)), 64 << 10),
    ".bz2": (bz2.BZ2Decompressor, 2 << 10),
    ".zst": (_zstd, 2 << 10),
    ".xz": (_xz, 2 << 10),
}
FIRST_BYTES = (
    (b"\x1f\x8b", ".gz"),
    # The digit is the size of its blocks, and six bytes begin a block or the end.
    *((b"BZh%d%s" % (size, next), ".bz2") for size in range(1, 10) for next in (b"1AY&SY", b"\x17rE8P\x90")),
    (b"\x28\xb5\x2f\xfd", ".zst"),
    (b"\xfd7zXZ\0", ".xz"),
)
NOT_READ = "which is not read: pack it by gzip, xz or Zstandard, or not at all"
ZEROS = re.compile(rb"\0++")
NO_TEXT = (
    (b"PK\x03\x04", "a zip archive, or a workbook or document of an office program, without the suffix .zip"),
    (b"PAR1", 'Parquet: source.format = "parquet"'),
    (b"ORC", 'ORC: source.format = "orc"'),
    (b"Obj\x01", 'Avro: source.format = "avro"'),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"%PDF-", "a PDF document"),
    *((sign, "a picture") for sign in (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")),
    *((sign, "a 7z or rar archive, which is not read") for sign in (b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07")),
    (b"\x1f\x9d", f"packed by compress (.Z), {NOT_READ}"),
    (b"\x04\x22\x4d\x18", f"packed by LZ4, {NOT_READ}"),
    (b"\xff\x06\0\0sNaPpY", f"packed by Snappy, {NOT_READ}"),
    # Behind these bytes stands the size of the dictionary, here those of the presets; no text in UTF-32 has them there.
    *(
        (b"]\0\0" + size, f"packed by lzma, {NOT_READ}")
        for size in (b"\x04", b"\x10", b"\x20", b"\x40", b"\x80", b"\0\x01", b"\0\x02", b"\0\x04")
    ),
)
"""First bytes of what is neither text nor compressed text, and its name."""
CONTROL = re.compile(rb"%PDF-|[\x00-\x08\x0e-\x19]")
"""What tells it from a text in another encoding, whose first column may be called ORCID."""


def compression_of(path: str) -> str | None:
    """Return the suffix of a path that says how to decompress the file, None for a plain one."""
    return next((suffix for suffix in DECOMPRESSORS if path.lower().endswith(suffix)), None)


def compression_by(beginning: bytes, path: str) -> str | None:
    """Return how to decompress a file, by its first bytes; by its suffix where these tell nothing and are no text."""
    for first, suffix in FIRST_BYTES:
        if beginning.startswith(first):
            return suffix
    return None if is_text(beginning) else compression_of(path)


def is_text(beginning: bytes) -> bool:
    """Return True for the beginning of a text in UTF-8."""
    looked = beginning[:1024]
    try:
        codecs.getincrementaldecoder("utf-8")().decode(looked)
    except UnicodeDecodeError:
        return False
    return bool(looked) and b"\0" not in looked


def is_tar(beginning: bytes) -> bool:
    """Return True for the first block of a tar (POSIX.1-1988 and all since; GNU's too)."""
    return beginning[257:262] == b"ustar" and b"\0" in beginning[:257]


def open_plain(location: str, options: Storage | None) -> IO[bytes]:
    """Open a file without decompression, unbuffered where it is local. Raises OSError."""
    if storage.is_local(location):
        return open(storage.absolute(location), "rb", buffering=0)
    file_system, path = storage.filesystem(location, options)
    return cast(IO[bytes], file_system.open(path, "rb"))


class SourceStream(io.RawIOBase):
    """File as a stream of decompressed bytes; `damage` says in half a sentence why it ended early, None otherwise.

    `size` and `sha256` describe the stored file and are complete after `finish`. With `start`, reading begins at that
    byte, of a plain file only. `max_expansion`: a compressed file counts as damaged from where its content exceeds so
    many times the file (`listed` bytes, or the bytes read where those are more), and FREE_BYTES.
    """

    def __init__(
        self,
        location: str,
        options: Storage | None,
        start: int = 0,
        max_expansion: int | None = None,
        listed: int = 0,
        opener: Callable[[], IO[bytes]] | None = None,
        limit: int | None = None,
        binary: bool = False,
    ) -> None:
        """Open a file, or what `opener` opens, of which at most `limit` bytes are read.

        What is no text by its first bytes, such as a picture or a tar, counts as damaged unless it is to be `binary`.
        """
        super().__init__()
        self.damage: str | None = None
        self.reason = "unreadable_file"
        self.max_expansion, self.listed = max_expansion, listed
        self.start, self.given = start, 0
        """Place that reading began at, and bytes of the content handed out since."""
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._pending = memoryview(b"")
        self._file: IO[bytes] | None = None
        try:
            self._file = open_plain(location, options) if opener is None else opener()
            if start:
                self._file.seek(start)
        except ArchiveError as error:
            self.damage = str(error)
        except OSError as error:
            self.damage = f"{CANNOT_OPEN} ({error.strerror or type(error).__name__})"
        self._limit, self._binary = limit, binary
        self._chunks = self._plain(CHUNK) if start else self._content(location)

    @property
    def sha256(self) -> str | None:
        """SHA-256 of all bytes read; None when the file could not be opened or read to its end."""
        return None if self._file is None or self._broken else self._sha256.hexdigest()

    _broken = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        filled = 0
        # To the end of the buffer, so that what is told by the beginning of a file never hangs on how it is compressed.
        while filled < len(buffer):
            if not self._pending:
                chunk = next(self._chunks, b"")
                if not chunk:
                    break
                self._pending = memoryview(chunk)
                self.given += len(chunk)
            count = min(len(buffer) - filled, len(self._pending))
            buffer[filled : filled + count] = self._pending[:count]
            self._pending = self._pending[count:]
            filled += count
        return filled

    def finish(self) -> None:
        """Read the rest of the stored file, so that size and hash cover the whole."""
        for _ in self._plain(CHUNK):
            pass

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()

    def _plain(self, size: int) -> Iterator[bytes]:
        while self._file is not None and not self._broken:
            try:
                chunk = self._file.read(size)
            except OSError as error:
                self._broken = True
                self.damage = f"{CANNOT_READ_ON} ({error.strerror or type(error).__name__})"
                return
            except ArchiveError as error:
                self._broken = True
                self.damage = str(error)
                return
            if not chunk:
                return
            if self._limit is not None and self.size + len(chunk) > self._limit:
                self._broken = True
                self._note_too_much("the file in the archive")
                return
            self.size += len(chunk)
            self._sha256.update(chunk)
            yield chunk

    def _content(self, path: str) -> Iterator[bytes]:
        """Yield the content, decompressed where the first bytes say so."""
        chunks = self._plain(CHUNK)
        first = next(chunks, b"")
        suffix = compression_by(first, path)
        name = next((name for sign, name in NO_TEXT if first.startswith(sign)), None)
        if name is not None and not self._binary and not is_text(first) and CONTROL.search(first[:1024]):
            self.damage = f"the file is {name}"
            return
        whole = itertools.chain([first], chunks) if first else chunks
        content = whole if suffix is None else self._decompressed(suffix, whole)
        beginning = next(content, b"")
        if is_tar(beginning) and not self._binary:
            self.damage = (
                "the file is a tar archive without its suffix: name it .tar, or .tar.gz where it is packed"
            )
            return
        yield beginning
        yield from content

    def _decompressed(self, suffix: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the members of a compressed file one after the other; zeros between and behind them are padding."""
        new, step = DECOMPRESSORS[suffix]
        member: Decompressor | None = None
        members = given = 0
        for chunk in chunks:
            # The rest of the chunk is never copied: there may be a member in every few bytes.
            view, place = memoryview(chunk), 0
            while place < len(chunk):
                if member is None:
                    if members and not chunk[place]:
                        padding = ZEROS.match(chunk, place)
                        assert padding is not None
                        place = padding.end()
                        continue
                    member = new()
                fed = view[place : place + step]
                try:
                    data = member.decompress(fed)
                except (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError):
                    self.damage = f"the {suffix} data are damaged"
                    return
                place += len(fed)
                if member.eof:
                    place -= len(member.unused_data)
                    member, members = None, members + 1
                given += len(data)
                if self._too_much(given):
                    return
                if data:
                    yield data
        if self.damage is None and (member is not None or not members):
            self.damage = f"the {suffix} data end too early"

    def _too_much(self, given: int) -> bool:
        limit = content_limit(max(self.size, self.listed), self.max_expansion)
        if limit is None or given <= limit:
            return False
        self._note_too_much("the compressed file")
        return True

    def _note_too_much(self, what: str) -> None:
        self.reason = "too_large_content"
        self.damage = (
            f"the content is more than {self.max_expansion:,} times as large as {what} "
            "(`max_expansion` of its [[source]])"
        )


# A frozen dataclass takes three times as long to make, and there is one of these for each line.
class Line(NamedTuple):
    """Line without its LF; `size` counts all its bytes, while `content` may be cut."""

    position: int
    content: bytes
    size: int
    ended: bool
    """False for a last line without LF."""


def read_line(reader: io.BufferedReader, position: int, limit: int = MAX_RECORD_BYTES) -> Line | None:
    """Return the line at `position`, or None at the end; of a line longer than `limit` the first `limit` bytes."""
    line = reader.readline(limit + 1)
    if not line:
        return None
    if line.endswith(b"\n"):
        return Line(position, line[:-1], len(line) - 1, True)
    size = len(line)
    while size > limit:
        more = reader.readline(CHUNK)
        if not more or more.endswith(b"\n"):
            return Line(position, line[:limit], size + max(len(more) - 1, 0), bool(more))
        size += len(more)
    return Line(position, line, size, False)


def read_lines(
    reader: io.BufferedReader, start: int, end: int | None, limit: int = MAX_RECORD_BYTES
) -> Iterator[Line]:
    """Yield the lines that begin in the bytes [start, end), to the end of the file without `end`.

    The reader stands at byte `start - 1`, or at 0: a line begins at `start` exactly when an LF precedes it.
    """
    position = 0
    if start:
        position = start - 1
        skipped = b""
        while not skipped.endswith(b"\n"):
            skipped = reader.readline(CHUNK)
            if not skipped:
                return
            position += len(skipped)
    while end is None or position < end:
        line = read_line(reader, position, limit)
        if line is None:
            return
        yield line
        position += line.size + line.ended
