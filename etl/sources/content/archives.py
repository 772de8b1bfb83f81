"""Archives: the files in zip and tar archives, each a file of its own with the path `archive.zip/member`.

Nothing is unpacked to disk. Zip members are read where they stand, tar members from the archive, which is decompressed
as it is read; of consecutive members of a compressed tar it goes on where it was. Folders and hidden files are skipped,
as a wildcard skips these; links, encrypted members, archives within archives, and names that lead out of the archive
are told and not read, and so is what stands between, before or behind the files.
"""

import contextlib
import io
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import IO, Any, Literal, Self

from common.storage import Storage, is_local
from common.wording import printable
from etl.sources.content.listing import Member, Obstacle, SourceFile, partition_columns
from etl.sources.content.streams import (
    ArchiveError,
    SourceStream,
    compression_by,
    content_limit,
    is_tar,
    open_plain,
)

SUFFIX = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz|zst))\Z", re.IGNORECASE)
MAX_MEMBERS = 100_000
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
"""First bytes of a zip, and of an empty one."""
RECENT = 32 << 20
"""Bytes of a compressed tar that can be read again."""
UNSAFE = re.compile(r"\A[/\\]|\A[A-Za-z]:|(\A|[/\\])\.\.([/\\]|\Z)|[\x00-\x1f\x7f]|\\")
HIDDEN = re.compile(r"(\A|/)(\.(?!\.?/)|__MACOSX/)")
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


class RefusedArchive(ArchiveError):
    """Archive of which nothing is to be read."""


_listed: dict[tuple[str, int, datetime | None], tuple[list[tuple[Member, Obstacle | None]], str | None]] = {}
"""Members of archives, and what is wrong with these, by location, size and time: they are listed several times."""


def expanded(files: list[SourceFile], options: Storage | None, max_expansion: int) -> list[SourceFile]:
    """Return the files with the members of the archives among them in the place of these."""
    return [member for file in files for member in _expanded(file, options, max_expansion)]


def _expanded(file: SourceFile, options: Storage | None, max_expansion: int) -> Iterator[SourceFile]:
    if file.obstacle is not None or not SUFFIX.search(file.path):
        yield file
        return
    key = (file.location, file.bytes, file.modified)
    if key not in _listed:
        _listed[key] = _members(file, options, max_expansion)
    members, trouble = _listed[key]
    if trouble is not None:
        what = "cannot be read" if not members else "is damaged, beside the files that are read"
        yield replace(file, obstacle=Obstacle("unreadable_file", f"the archive {what}: {trouble}"))
    elif not members:
        yield replace(file, obstacle=Obstacle("empty_archive", "the archive holds no file"))
    taken: set[str] = set()
    for member, obstacle in members:
        path = f"{file.path}/{printable(member.name)}"
        if path in taken:
            obstacle = Obstacle(
                "duplicate_member", "the archive has another file of this name, which is read"
            )
            path = f"{path}#{member.place}"
        taken.add(path)
        columns = partition_columns(path)
        yield replace(file, path=path, bytes=member.size, member=member, obstacle=obstacle, columns=columns)


def _members(
    file: SourceFile, options: Storage | None, max_expansion: int
) -> tuple[list[tuple[Member, Obstacle | None]], str | None]:
    """List an archive, which its first bytes tell better than its name: its members, and what is wrong with it."""
    found: list[tuple[Member, Obstacle | None]] = []
    try:
        with open_plain(file.location, options) as opened:
            beginning = opened.read(tarfile.BLOCKSIZE)
        is_zip = beginning.startswith(ZIP) or (
            not is_tar(beginning)
            and file.path.lower().endswith(".zip")
            and compression_by(beginning, "") is None
        )
        for member in (_zip_members if is_zip else _tar_members)(file, options, max_expansion):
            found.append(member)
    except RefusedArchive as error:
        return [], str(error)
    except (ArchiveError, OSError, *DAMAGE) as error:
        return found, error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return found, None


def _obstacle(name: str) -> Obstacle | None:
    if UNSAFE.search(name):
        return Obstacle(
            "unsafe_member", "its name leads out of the archive or has characters that no name may have"
        )
    if SUFFIX.search(name):
        return Obstacle("nested_archive", "an archive within an archive is not read: unpack the outer one")
    return None


def _zip_members(
    file: SourceFile, options: Storage | None, max_expansion: int
) -> Iterator[tuple[Member, Obstacle | None]]:
    with open_plain(file.location, options) as opened, zipfile.ZipFile(opened) as archive:
        _check_number(len(archive.infolist()))
        for place, info in enumerate(archive.infolist()):
            if info.is_dir() or HIDDEN.search(info.filename):
                continue
            member = Member(info.filename, place, info.file_size, info.compress_size)
            obstacle = _obstacle(info.orig_filename)
            if info.flag_bits & 0x1:
                obstacle = Obstacle(
                    "encrypted_member", "it is encrypted: unpack the archive with its password"
                )
            yield member, obstacle
        before = min((info.header_offset for info in archive.infolist()), default=0)
        opened.seek(0)
        if before and opened.read(len(ZIP[0])) == ZIP[0]:
            raise ArchiveError(f"another archive of {before:,} bytes stands before it: divide the two")


class _Blocks:
    """Blocks of a tar where a header should stand: those that are none, and whether the last one was of zeros."""

    def __init__(self) -> None:
        self.invalid = 0
        self.ended = False

    def header(self) -> type[tarfile.TarInfo]:
        """Return a class of headers that counts them."""
        blocks = self

        class Header(tarfile.TarInfo):
            @classmethod
            def frombuf(cls, buf: Any, encoding: str, errors: str) -> Self:
                try:
                    found = super().frombuf(buf, encoding, errors)
                except tarfile.HeaderError as error:
                    is_zero = isinstance(error, tarfile.EOFHeaderError)  # type: ignore[attr-defined]
                    blocks.ended |= is_zero
                    blocks.invalid += bool(buf) and not is_zero
                    raise
                blocks.ended = False
                return found

        return Header

    def check(self, members: int) -> None:
        """Raise ArchiveError where anything but files and their end was found."""
        if self.invalid and not members:
            raise ArchiveError("it is no tar")
        if self.invalid:
            raise ArchiveError(
                f"up to {self.invalid * tarfile.BLOCKSIZE:,} bytes between or behind its files are no files"
            )
        if members and not self.ended:
            raise ArchiveError("it ends without its end mark, as if it was cut off")


def _tar_members(
    file: SourceFile, options: Storage | None, max_expansion: int
) -> Iterator[tuple[Member, Obstacle | None]]:
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_plain(file.location, options))
        beginning = opened.read(tarfile.BLOCKSIZE)
        compressed = not is_tar(beginning) and compression_by(beginning, file.path) is not None
        opened.seek(0)
        content: SourceStream | None = None
        if compressed:
            content = stack.enter_context(
                SourceStream(file.location, options, 0, max_expansion, file.bytes, binary=True)
            )
            source: Any = io.BufferedReader(content, 1 << 20)
        else:
            source = io.BufferedReader(opened, 1 << 16)
        number, blocks = 0, _Blocks()
        mode: Literal["r|", "r:"] = "r|" if compressed else "r:"
        # Beyond the first end, for tars that were put behind each other, and beyond damage.
        with tarfile.open(fileobj=source, mode=mode, ignore_zeros=True, tarinfo=blocks.header()) as archive:
            while (info := archive.next()) is not None:
                number += 1
                _check_number(number)
                archive.members = []  # type: ignore[attr-defined]  # of which tarfile would keep all
                if info.isdir() or HIDDEN.search(info.name):
                    continue
                obstacle = _obstacle(info.name)
                if not info.isreg() or info.issparse():
                    obstacle = Obstacle(
                        "no_file", "it is a link, a device or a sparse file, which is not read"
                    )
                size = info.size if info.isreg() else 0
                yield Member(info.name, info.offset_data, size, file.bytes, True, compressed), obstacle
        if content is not None and content.damage is not None:
            kind = ArchiveError if content.reason == "unreadable_file" else RefusedArchive
            raise kind(content.damage)
        blocks.check(number)


def _check_number(members: int) -> None:
    if members > MAX_MEMBERS:
        raise RefusedArchive(f"it has more than {MAX_MEMBERS:,} files: unpack it")


class _Tar:
    """Content of a tar, read from its beginning on where it is compressed.

    Of a compressed one the last `RECENT` bytes are kept: a file is looked into before it is read.
    """

    def __init__(self, location: str, member: Member, options: Storage | None) -> None:
        self.place = 0
        self.recent, self.recent_from = bytearray(), 0
        self.stream: SourceStream | None = None
        if member.compressed:  # the listing has checked how it expands
            self.stream = SourceStream(location, options, 0, None, member.stored, binary=True)
            self.file: IO[bytes] = io.BufferedReader(self.stream, 1 << 20)
        else:
            self.file = open_plain(location, options)

    def reaches(self, place: int) -> bool:
        """Return True if `go_to` can go there."""
        return self.stream is None or place >= self.recent_from

    def go_to(self, place: int) -> None:
        """Go to a place that it reaches."""
        if self.stream is None:
            self.file.seek(place)
        else:
            self.place = min(place, self.recent_from + len(self.recent))
            while self.place < place and self.read(min(place - self.place, 1 << 20)):
                pass
        self.place = place

    def read(self, size: int) -> bytes:
        begin = self.place - self.recent_from
        if begin < len(self.recent):
            content = bytes(self.recent[begin : begin + size])
        else:
            content = self.file.read(size)
            if not content and size:
                raise ArchiveError(
                    (self.stream and self.stream.damage) or "the archive ends within this file"
                )
            if self.stream is not None:
                self.recent += content
        self.place += len(content)
        if len(self.recent) > 2 * RECENT:
            self.recent_from += len(self.recent) - RECENT
            del self.recent[:-RECENT]
        return content


class _Zip:
    """Opened zip."""

    def __init__(self, location: str, _: Member, options: Storage | None) -> None:
        self.place = 0
        self.file = open_plain(location, options)
        self.archive = zipfile.ZipFile(self.file)


_open: dict[tuple[object, ...], _Tar | _Zip] = {}
"""The archive that was read last in this process, which its next file is read from."""


def _kept(location: str, member: Member, place: int, options: Storage | None) -> Any:
    """Return the opened archive of a member: the last one, if it is the same and reaches a place in a tar."""
    status = os.stat(location) if is_local(location) else None
    key = (location, member.in_tar, status and (status.st_ino, status.st_size, status.st_mtime_ns))
    archive = _open.get(key)
    if archive is None or (isinstance(archive, _Tar) and not archive.reaches(place)):
        for other in _open.values():
            other.file.close()
        _open.clear()
        archive = _open[key] = (_Tar if member.in_tar else _Zip)(location, member, options)
    return archive


def stream_of(
    file: SourceFile,
    options: Storage | None,
    start: int = 0,
    max_expansion: int | None = None,
    binary: bool = False,
) -> SourceStream:
    """Return the stream of a file, in an archive or not."""
    member = file.member
    if member is None:
        return SourceStream(file.location, options, start, max_expansion, file.bytes, binary=binary)
    opener = partial(OpenMember, file.location, member, options)
    limit = content_limit(member.stored, max_expansion)
    return SourceStream(file.path, options, 0, max_expansion, file.bytes, opener, limit, binary)  # type: ignore[arg-type]


class OpenMember(io.RawIOBase):
    """Content of a member. Opening raises OSError and ArchiveError, and so does reading."""

    def __init__(self, location: str, member: Member, options: Storage | None) -> None:
        super().__init__()
        self.location, self.member, self.options = location, member, options
        self.at = member.place
        """Place of what comes next in a tar."""
        with _told():
            archive = _kept(location, member, self.at, options)
            if not member.in_tar:
                self.file = archive.archive.open(archive.archive.infolist()[member.place])

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        size = size if size >= 0 else 1 << 20
        with _told():
            if not self.member.in_tar:
                content: bytes = self.file.read(size)
                return content
            left = self.member.place + self.member.size - self.at
            if left == 0:
                return b""
            # Another stream of the same archive may have read from it since.
            archive = _kept(self.location, self.member, self.at, self.options)
            archive.go_to(self.at)
            content = archive.read(min(size, left))
        self.at += len(content)
        return content


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Raise the errors of damaged archives as ArchiveError."""
    try:
        yield
    except DAMAGE as error:
        raise ArchiveError(f"the archive is damaged here: {error}") from error
