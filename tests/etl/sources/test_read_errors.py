"""Files that cannot be opened, or fail in the middle of reading: one row says so, and everything before it stays."""

import bz2
import errno
import gzip
import io
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.sources.files.formats import Found, Rejected
from tests.etl.sources.source_files import configuration, read_rows, reasons

ROWS = 40_000


class HalfReadable(io.RawIOBase):
    """A file whose bytes from `bad.start` to `bad.stop` cannot be read: a bad sector, a lost network disk."""

    def __init__(self, file: Path, bad: range) -> None:
        super().__init__()
        self._file = open(file, "rb", buffering=0)  # noqa: SIM115
        self._bad = bad

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        here = self._file.tell()
        if here in self._bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        before = self._bad.start - here  # like the kernel: first the bytes before it
        return self._file.readinto(memoryview(buffer)[:before] if before > 0 else buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def texts() -> list[str]:
    """Return texts of 64 characters each that no compression makes much smaller."""
    rng = random.Random(1)
    return [rng.randbytes(32).hex() for _ in range(ROWS)]


def json_lines(file: Path) -> None:
    content = "".join(
        json.dumps({"id": f"{n}", "label": "x", "text": t}) + "\n" for n, t in enumerate(texts())
    )
    packers: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress}
    file.write_bytes(packers.get(file.suffix, bytes)(content.encode()))


def table(file: Path) -> None:
    file.write_text("id,label,text\n" + "".join(f"{n},x,{t}\n" for n, t in enumerate(texts())))


def parquet(file: Path) -> None:
    columns = {"id": [str(n) for n in range(ROWS)], "label": ["x"] * ROWS, "text": texts()}
    pq.write_table(pa.table(columns), file, row_group_size=ROWS // 8, use_dictionary=False)


FILES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a.jsonl": ("jsonl", json_lines),
    "a.jsonl.gz": ("jsonl", json_lines),
    "a.jsonl.bz2": ("jsonl", json_lines),
    "a.csv": ("csv", table),
    "a.parquet": ("parquet", parquet),
}


def reading(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, opened: Callable[[Path], IO[bytes]]
) -> list[Found | Rejected]:
    """Return the rows of the file `name`, with `opened` in place of opening a file."""
    format_name, write = FILES[name]
    write(tmp_path / name)
    for module in ("content.streams", "files.parquet"):
        monkeypatch.setattr(f"etl.sources.{module}.open_plain", lambda location, _: opened(Path(location)))
    config = configuration(tmp_path, [{"format": format_name, "path": f"{tmp_path}/{name}"}])
    return read_rows(config, tmp_path / name)


@pytest.mark.parametrize("name", FILES)
def test_before_an_error_in_the_middle_all_records_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def opened(file: Path) -> IO[bytes]:
        middle = file.stat().st_size * 2 // 3
        return HalfReadable(file, range(middle, middle + 4096))  # type: ignore[return-value]

    rows = reading(monkeypatch, tmp_path, name, opened)
    assert set(reasons(rows[:-1])) == {None}
    assert ROWS // 10 < len(rows) < ROWS
    ids = [row.values["id"] for row in rows[:-1] if isinstance(row, Found)]
    assert ids == [str(number) for number in range(len(ids))]
    last = rows[-1]
    assert isinstance(last, Rejected)
    assert (last.reason, last.damaged) == ("unreadable_file", True)
    assert "Input/output error" in last.detail or f"cannot be read from row {len(ids):,} on" in last.detail


def test_a_piece_whose_first_bytes_cannot_be_read_says_where_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.jsonl"
    json_lines(file)
    middle = file.stat().st_size // 2
    bad = range(middle - 10, middle + 4096)
    monkeypatch.setattr("etl.sources.content.streams.open_plain", lambda *_: HalfReadable(file, bad))
    config = configuration(tmp_path, [{"format": "jsonl", "path": str(file)}])
    (row,) = read_rows(config, file, middle, file.stat().st_size)
    assert isinstance(row, Rejected)
    assert (row.reason, row.position, row.damaged) == ("unreadable_file", middle, True)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENOENT])
def test_a_file_that_cannot_be_opened_is_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    def opened(_: Path) -> IO[bytes]:
        raise OSError(number, os.strerror(number))

    (row,) = reading(monkeypatch, tmp_path, name, opened)
    assert isinstance(row, Rejected)
    assert (row.reason, row.damaged, row.position, row.raw) == ("unreadable_file", True, 0, b"")
    assert os.strerror(number) in row.detail or "cannot be read from row 0 on" in row.detail


def test_what_the_kernel_refuses_to_read_is_one_row(tmp_path: Path) -> None:
    """The memory of this process opens like a file, but cannot be read at its beginning, not even by root."""
    memory = Path("/proc/self/mem")
    config = configuration(tmp_path, [{"format": "jsonl", "path": str(memory)}])
    (row,) = read_rows(config, memory)
    assert isinstance(row, Rejected)
    assert (row.reason, row.damaged) == ("unreadable_file", True)
    assert "Input/output error" in row.detail
