"""Opening files: decompression, damage, hashes, bounded lines."""

import bz2
import gzip
import hashlib
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from etl.sources.content.streams import SourceStream, read_line
from etl.sources.files.formats import FilePart, Found, Rejected
from etl.sources.files.pieces import list_pieces
from tests.etl.sources.source_files import configuration, read_rows, reader_of, reasons

LINES = b"".join(b'{"id":"%d","label":"x","text":"%s"}\n' % (i, b"word " * (i % 50)) for i in range(3000))
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
    ".xz": lzma.compress,
}


@pytest.mark.parametrize("suffix", COMPRESSORS)
@pytest.mark.parametrize("members", [1, 3])
def test_compressed_files_give_their_content_and_the_hash_of_the_file(
    tmp_path: Path, suffix: str, members: int
) -> None:
    file = tmp_path / f"a.jsonl{suffix}"
    file.write_bytes(COMPRESSORS[suffix](LINES) * members)
    part = FilePart(str(file), None)
    stream, reader = part.open()
    assert isinstance(stream, SourceStream)
    assert reader.read() == LINES * members
    stream.finish()
    part.close()
    assert stream.damage is None
    assert (stream.size, stream.sha256) == (
        file.stat().st_size,
        hashlib.sha256(file.read_bytes()).hexdigest(),
    )


@pytest.mark.parametrize("suffix", COMPRESSORS)
@pytest.mark.parametrize("chunk", [1 << 20, 13])
def test_zeros_between_members_are_padding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, chunk: int
) -> None:
    monkeypatch.setattr("etl.sources.content.streams.CHUNK", chunk)
    file = tmp_path / f"a.jsonl{suffix}"
    member = COMPRESSORS[suffix](b"{}\n")
    file.write_bytes(member + b"\0" * 4 + member + b"\0" * 8)
    with SourceStream(str(file), None) as stream:
        assert (stream.read(), stream.damage) == (b"{}\n{}\n", None)
    file.write_bytes(member + b"\0" * 4 + b"something else than a member")
    with SourceStream(str(file), None) as stream:
        assert (stream.read(), stream.damage) == (b"{}\n", f"the {suffix} data are damaged")


class Counted(bytes):
    """Bytes that count how many of them are copied by slices."""

    copied = 0

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        if not isinstance(found, bytes):
            return found
        Counted.copied += len(found)
        return Counted(found)

    def __radd__(self, before: bytes) -> bytes:
        return Counted(bytes(before) + bytes(self))


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_of_very_many_small_members_the_rest_is_not_copied_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    file = tmp_path / f"a.jsonl{suffix}"
    file.write_bytes(COMPRESSORS[suffix](b"{}\n") * 5000 + b"\0" * 100)
    monkeypatch.setattr(Counted, "copied", 0)
    real = SourceStream._plain
    monkeypatch.setattr(SourceStream, "_plain", lambda *given: map(Counted, real(*given)))
    part = FilePart(str(file), None)
    stream, reader = part.open()
    assert (reader.read(), stream.damage) == (b"{}\n" * 5000, None)
    part.close()
    assert Counted.copied <= file.stat().st_size


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_of_a_truncated_file_the_records_before_the_cut_stay(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.jsonl{suffix}"
    noise = b"".join(
        hashlib.sha256(bytes([i % 256, i // 256])).hexdigest().encode() + b"\n" for i in range(20000)
    )
    content = b"".join(b'{"text":"' + one + b'"}\n' for one in noise.split())
    whole = COMPRESSORS[suffix](content)
    file.write_bytes(whole[: len(whole) * 2 // 3])
    rows = read_rows(configuration(tmp_path, [{"format": "jsonl", "path": str(file)}]), file)
    assert reasons(rows[-1:]) == ["unreadable_file"]
    assert len(rows) > 1
    assert all(isinstance(row, Found) for row in rows[:-1])
    assert content.startswith(b"".join(row.raw + b"\n" for row in rows[:-1]) + rows[-1].raw)


@pytest.mark.parametrize("suffix", COMPRESSORS)
@pytest.mark.parametrize("content", [b"", b"no \0 text", b"\xff\xfe\xff"])
def test_what_is_neither_compressed_nor_text_is_damaged(tmp_path: Path, suffix: str, content: bytes) -> None:
    file = tmp_path / f"a.jsonl{suffix}"
    file.write_bytes(content)
    rows = read_rows(configuration(tmp_path, [{"format": "jsonl", "path": str(file)}]), file)
    assert reasons(rows) == ["unreadable_file"]


@pytest.mark.parametrize("compressed", COMPRESSORS)
@pytest.mark.parametrize("suffix", ["", ".json", ".GZ", ".xz"])
def test_compression_is_told_by_the_first_bytes(tmp_path: Path, suffix: str, compressed: str) -> None:
    file = tmp_path / f"a.jsonl{suffix}"
    config = configuration(tmp_path, [{"format": "jsonl", "path": str(file)}])
    for content in (COMPRESSORS[compressed](LINES), LINES):
        file.write_bytes(content)
        assert reasons(read_rows(config, file)) == [None] * 3000


@pytest.mark.parametrize("compressed", COMPRESSORS)
def test_a_large_compressed_file_without_suffix_is_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: str
) -> None:
    monkeypatch.setattr("etl.sources.files.jsonl.JsonLinesFormat.piece_bytes", 100)
    config = configuration(tmp_path, [{"format": "jsonl", "path": str(tmp_path / "a.jsonl")}])
    for content, pieces in ((COMPRESSORS[compressed](LINES), 1), (LINES[:200], 3)):
        (tmp_path / "a.jsonl").write_bytes(content)
        assert len(list_pieces(config)) == pieces


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"PK\x03\x04\x14\0\0", "zip"),
        (b"PAR1\x15\0\0PAR1", "parquet"),
        (b"ORC\x0a\0", "orc"),
        (b"%PDF-1.4 \xff", "PDF"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a picture"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "a picture"),
        (b"GIF89a\1\0\1\0", "a picture"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "7z"),
        (b"Rar!\x1a\7\1\0", "rar"),
        (b"SQLite format 3\0\x10\0", "SQLite"),
        (b"Obj\1\4\x16avro.schema\xff", "avro"),
        (b"\x1f\x9d\x90\x61\x12\xe9", "compress (.Z)"),
        (b"\x04\x22\x4d\x18\x64\x40\xa7", "LZ4"),
        (b"\xff\x06\0\0sNaPpY\1\5", "Snappy"),
        (lzma.compress(LINES, lzma.FORMAT_ALONE, preset=0), "lzma"),
        (lzma.compress(LINES, lzma.FORMAT_ALONE), "lzma"),
        (lzma.compress(LINES, lzma.FORMAT_ALONE, preset=9), "lzma"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_what_is_no_text_is_named(tmp_path: Path, content: bytes, name: str, kind: str) -> None:
    file = tmp_path / "a"
    file.write_bytes(content)
    (row,) = read_rows(configuration(tmp_path, [{"format": kind, "path": str(file)}]), file)
    assert isinstance(row, Rejected)
    assert row.damaged
    assert name in row.detail


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_bomb_is_given_up_where_its_content_gets_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr("etl.sources.content.streams.FREE_BYTES", 1 << 20)
    file = tmp_path / f"a.jsonl{suffix}"
    file.write_bytes(COMPRESSORS[suffix](LINES + b" " * (8 << 20) + b"\n" + LINES))
    expansion = (2 * len(LINES) + (8 << 20)) / file.stat().st_size
    for limit, given_up in ((int(expansion) + 1, False), (int(expansion * 0.9), True)):
        part = FilePart(str(file), None, max_expansion=limit)
        stream, reader = part.open()
        assert isinstance(stream, SourceStream)
        size = len(reader.read())
        stream.finish()
        part.close()
        assert (stream.damage is not None) == given_up
        assert size <= limit * file.stat().st_size
        assert stream.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert stream.reason == "too_large_content"
    source = {"format": "jsonl", "path": str(file), "max_expansion": 2}
    rows = read_rows(configuration(tmp_path, [source]), file)
    assert set(reasons(rows[:-1])) <= {None}
    assert reasons(rows[-1:]) == ["too_large_content"]


def test_a_missing_file_is_one_row(tmp_path: Path) -> None:
    config = configuration(tmp_path, [{"format": "jsonl", "path": "*"}])
    assert reasons(read_rows(config, tmp_path / "gone.jsonl")) == ["unreadable_file"]


@pytest.mark.parametrize("size", [1, 9, 10, 11, 30])
@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_long_line_is_cut_but_measured(size: int, end: bytes) -> None:
    reader = reader_of(b"x" * size + end + b"next"[: 4 * len(end)])
    line = read_line(reader, 0, limit=10)
    assert line is not None
    assert (line.content, line.size, line.ended) == (b"x" * min(size, 10), size, bool(end))
    assert reader.read() == (b"next" if end else b"")


def test_a_field_of_64_megabytes_passes(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"id":"a","label":"x","text":"' + b"\\u0041bcde" * (8 << 20) + b'"}\n')
    (row,) = read_rows(configuration(tmp_path, [{"format": "jsonl", "path": str(file)}]), file)
    assert isinstance(row, Found)
    assert row.values["text"] == "Abcde" * (8 << 20)


def test_a_longer_record_than_the_limit_is_rejected_with_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.sources.files.formats.MAX_RAW_BYTES", 8)
    monkeypatch.setattr("etl.sources.files.jsonl.MAX_RECORD_BYTES", 16)
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"text":"' + b"a" * 100 + b'"}\n{"text":"b"}\n')
    rows = read_rows(configuration(tmp_path, [{"format": "jsonl", "path": str(file)}]), file)
    assert reasons(rows) == ["too_long", None]
    assert rows[0].raw == b'{"text":'
    assert "the first 8 of its 111 bytes" in rows[0].detail  # type: ignore[union-attr]
