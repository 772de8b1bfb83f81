"""Archives: their files are files of the source, and hostile ones are told."""

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import zstandard

from common.storage import Storage
from etl.sources.content import archives
from etl.sources.content.archives import MAX_MEMBERS
from etl.sources.content.listing import Member
from etl.sources.files import pieces
from etl.sources.reading import FILE, QUARANTINE, RECORD, Reader
from schemas.config import Configuration
from tests.etl.sources.source_files import configuration

LINES = {
    f"folder/{name}.jsonl": b"".join(
        b'{"id":"%s%d","label":"x","text":"t"}\n' % (name.encode(), n) for n in range(9)
    )
    for name in "abc"
}
COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    ".tar": bytes,
    ".tar.gz": gzip.compress,
    ".tgz": gzip.compress,
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
    ".tar.zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.mkdir("folder")
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def read(tmp_path: Path, name: str, content: bytes, **settings: object) -> tuple[list[str], dict[str, str]]:
    """Return the ids of the records, and the reason for each rejected row by its path; check the accounting."""
    (tmp_path / name).write_bytes(content)
    config = configured(tmp_path, name, **settings)
    found = [
        row for batch in Reader(config).batches(0, pieces.list_pieces(config)) for row in batch.to_pylist()
    ]
    for row in found:
        if row["kind"] == FILE and not row["damaged"]:
            assert row["bytes"] == row["bytes_read"]
    return (
        [row["record_id"] for row in found if row["kind"] == RECORD],
        {row["source_path"]: row["reason"] for row in found if row["kind"] == QUARANTINE},
    )


def configured(tmp_path: Path, name: str, **settings: object) -> Configuration:
    return configuration(tmp_path, [{"format": "jsonl", "path": str(tmp_path / name), **settings}])


IDS = [f"{name}{n}" for name in "abc" for n in range(9)]


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_files_of_a_zip_are_read(tmp_path: Path, method: int) -> None:
    assert read(tmp_path, "a.zip", zipped(LINES, method)) == (IDS, {})
    config = configured(tmp_path, "a.zip")
    files = [piece.file for piece in pieces.list_pieces(config)]
    assert [file.path for file in files] == [f"a.zip/{name}" for name in LINES]
    rows = [r for batch in Reader(config).batches(0, pieces.list_pieces(config)) for r in batch.to_pylist()]
    hashes = [row["sha256"] for row in rows if row["kind"] == FILE]
    assert hashes == [hashlib.sha256(content).hexdigest() for content in LINES.values()]


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_files_of_a_tar_are_read(tmp_path: Path, suffix: str) -> None:
    content = COMPRESSORS[suffix](tarred(LINES))
    assert read(tmp_path, f"a{suffix}", content) == (IDS, {})
    config = configured(tmp_path, f"a{suffix}")
    backwards = list(reversed(pieces.list_pieces(config)))  # as other tasks may want them
    rows = [row for batch in Reader(config).batches(0, backwards) for row in batch.to_pylist()]
    assert {row["record_id"] for row in rows if row["kind"] == RECORD} == set(IDS)


@pytest.mark.parametrize(("recent", "once"), [(archives.RECENT, True), (600, True), (1, False)])
def test_a_compressed_tar_is_read_once_though_its_files_are_looked_into_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recent: int, once: bool
) -> None:
    opened = []

    class Counted(archives._Tar):
        def __init__(self, location: str, member: Member, options: Storage | None) -> None:
            super().__init__(location, member, options)
            opened.append(member)

    monkeypatch.setattr(archives, "_Tar", Counted)
    monkeypatch.setattr(archives, "RECENT", recent)
    monkeypatch.setattr(archives, "_open", {})
    assert read(tmp_path, "a.tar.gz", gzip.compress(tarred(LINES)), encoding="auto") == (IDS, {})
    assert (len(opened) == 1) is once


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_files_in_archives_may_be_compressed_and_hidden_ones_are_skipped(
    tmp_path: Path, pack: Callable[[Mapping[str, bytes]], bytes]
) -> None:
    (name, content), *_ = LINES.items()
    files = {
        f"{name}.gz": gzip.compress(content),
        ".DS_Store": b"x",
        "__MACOSX/._a.jsonl": b"x",
        "b/.git/x": b"x",
    }
    suffix = ".zip" if pack is zipped else ".tar"
    assert read(tmp_path, f"a{suffix}", pack(files)) == (IDS[:9], {})


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_names_that_lead_out_and_archives_within_are_told(
    tmp_path: Path, pack: Callable[[Mapping[str, bytes]], bytes]
) -> None:
    suffix = ".zip" if pack is zipped else ".tar"
    files = {"../up.jsonl": b"{}", "a/../../b": b"{}", "in.ZIP": zipped({}), "in.tar.gz": b"x", **LINES}
    if pack is tarred:
        files = {"/etc/passwd": b"{}", **files}
    found, rejected = read(tmp_path, f"a{suffix}", pack(files))
    assert found == IDS
    expected = {path: "unsafe_member" for path in files if ".." in path or path.startswith("/")}
    expected |= {"in.ZIP": "nested_archive", "in.tar.gz": "nested_archive"}
    assert rejected == {f"a{suffix}/{path}": reason for path, reason in expected.items()}


def test_links_in_a_tar_and_files_of_one_name_are_told(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("device", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        for _ in range(2):
            info = tarfile.TarInfo("a.jsonl")
            content = LINES["folder/a.jsonl"]
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    found, rejected = read(tmp_path, "a.tar", file.getvalue())
    assert found == IDS[:9]
    assert sorted(rejected.values()) == ["duplicate_member", "no_file", "no_file", "no_file"]


def test_encrypted_and_damaged_files_are_told(tmp_path: Path) -> None:
    content = bytearray(zipped(LINES))
    entry = content.index(b"PK\x01\x02", content.index(b"folder/a.jsonl"))
    while content[entry + 46 : entry + 60] != b"folder/a.jsonl":
        entry = content.index(b"PK\x01\x02", entry + 1)
    content[entry + 8] |= 1
    place = content.index(b"folder/b.jsonl") + 20
    content[place : place + 8] = b"\xff" * 8
    found, rejected = read(tmp_path, "a.zip", bytes(content))
    assert found == IDS[18:]
    assert rejected == {"a.zip/folder/a.jsonl": "encrypted_member", "a.zip/folder/b.jsonl": "unreadable_file"}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz"])
@pytest.mark.parametrize(
    "content", [b"", b"no archive at all", b"PK\x03\x04 and no more", b"\x1f\x8b\x08 cut"]
)
def test_what_is_no_archive_is_one_row(tmp_path: Path, name: str, content: bytes) -> None:
    found, rejected = read(tmp_path, name, content)
    assert found == []
    assert rejected in ({name: "unreadable_file"}, {name: "empty_archive"})


TAR = tarred(LINES)
"""Each of the three files takes a block for its header and one for its content."""


@pytest.mark.parametrize(
    ("content", "there", "said"),
    [
        (
            TAR[:1027] + bytes([TAR[1027] ^ 1]) + TAR[1028:],
            "ac",
            "bytes between or behind its files are no files",
        ),
        (TAR[:1024] + b"\xff" * 512 + TAR[1536:], "ac", "up to 1,024 bytes between or behind"),
        (TAR[:1124], "a", "up to 512 bytes"),
        (TAR[:1024], "a", "it ends without its end mark"),
        (TAR + b"garbage" * 100, "abc", "up to 1,024 bytes"),
        (TAR[:1024] + bytes(1024) + TAR[1024:], "abc", ""),
        (tarred({"a": LINES["folder/a.jsonl"]}) + tarred({"b": LINES["folder/b.jsonl"]}), "ab", ""),
    ],
)
def test_what_stands_between_and_behind_the_files_of_a_tar_is_told_or_read(
    tmp_path: Path, content: bytes, there: str, said: str
) -> None:
    for name, packed in (("a.tar", content), ("a.tgz", gzip.compress(content))):
        assert read(tmp_path, name, packed) == (
            [record for record in IDS if record[0] in there],
            {name: "unreadable_file"} if said else {},
        )
        (file, *_) = [piece.file for piece in pieces.list_pieces(configured(tmp_path, name))]
        assert said in (file.obstacle.detail if file.obstacle else "")


def test_of_two_zips_in_one_file_the_first_is_told(tmp_path: Path) -> None:
    one, other = (zipped({name: LINES[f"folder/{name}.jsonl"]}) for name in "ab")
    assert read(tmp_path, "a.zip", one + other) == (IDS[9:18], {"a.zip": "unreadable_file"})


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.tar.gz", TAR), ("a.zip", TAR), ("a.tar", gzip.compress(TAR)), ("a.tar", zipped(LINES))],
)
def test_first_bytes_tell_an_archive_better_than_its_name(tmp_path: Path, name: str, content: bytes) -> None:
    assert read(tmp_path, name, content) == (IDS, {})


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_tar_without_its_suffix_is_told(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    assert read(tmp_path, "a.jsonl", pack(TAR)) == ([], {"a.jsonl": "unreadable_file"})


def test_an_archive_without_files_is_told(tmp_path: Path) -> None:
    assert read(tmp_path, "a.zip", zipped({})) == ([], {"a.zip": "empty_archive"})


def test_a_truncated_archive_tells_of_it(tmp_path: Path) -> None:
    many = {
        f"{n}.jsonl": b'{"id":"%d","label":"x","text":"%s"}\n' % (n, bytes([97 + n]) * 5000)
        for n in range(20)
    }
    for suffix, content in (
        (".zip", zipped(many)),
        (".tar", tarred(many)),
        (".tar.gz", gzip.compress(tarred(many))),
    ):
        _, rejected = read(tmp_path, f"a{suffix}", content[: len(content) // 2])
        assert set(rejected.values()) == {"unreadable_file"}


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_bomb_in_an_archive_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr("etl.sources.content.streams.FREE_BYTES", 1 << 20)
    files = {"a.jsonl": LINES["folder/a.jsonl"] + b" " * (8 << 20)}
    content = zipped(files) if suffix == ".zip" else gzip.compress(tarred(files))
    found, rejected = read(tmp_path, f"a{suffix}", content)
    assert set(rejected.values()) <= {"too_large_content", "unreadable_file"}
    assert len(rejected) == 1
    assert len(found) in (0, 9)
    assert read(tmp_path, f"a{suffix}", content, max_expansion=10**5)[0] == IDS[:9]


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.sources.content.archives.MAX_MEMBERS", 2)
    assert MAX_MEMBERS > 2
    for suffix, content in ((".zip", zipped(LINES)), (".tar", tarred(LINES))):
        assert read(tmp_path, f"b{suffix}", content) == ([], {f"b{suffix}": "unreadable_file"})


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_encodings_are_detected_in_archives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Detection reads each file a second time, while it is open."""
    monkeypatch.setattr("etl.sources.files.formats.CHUNK", 1 << 10)
    monkeypatch.setattr("etl.sources.content.streams.CHUNK", 1 << 10)
    line = '{"id":"%s%d","label":"x","text":"gr\u00f6\u00dfer und sch\u00f6ner als jemals zuvor"}\n'
    files = {f"{n}.jsonl": "".join(line % (n, k) for k in range(200)).encode("cp1252") for n in "abc"}
    packed = tarred(files)
    content = {".zip": zipped(files), ".tar": packed, ".tar.gz": gzip.compress(packed)}[suffix]
    found, rejected = read(tmp_path, f"a{suffix}", content, encoding="auto")
    assert rejected == {}
    assert found == [f"{name}{number}" for name in "abc" for number in range(200)]
