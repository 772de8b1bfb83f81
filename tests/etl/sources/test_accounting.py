"""Accounting of the content of source files: records, quarantined pieces and what a rule skips add up to it."""

import bz2
import gzip
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.lake.tombstones import Tombstones, raw_sha256
from etl.sources.files import pieces
from etl.sources.files.jsonl import JsonLinesFormat
from etl.sources.files.parquet import ParquetFormat
from etl.sources.reading import FILE, Reader
from schemas.config import Configuration
from tests.etl.sources.source_files import configuration

LINES = (
    b'\xef\xbb\xbf\r\n{"id": "a", "label": "x", "text": "one"}\r\nno json\n \n'
    b'{"id": "b", "label": null, "text": "two"}\n{"id": "c", "label": "y", "text": "three"}'
)


def sizes(config: Configuration, tombstones: Tombstones | None = None) -> dict[str, int]:
    """Return the sums that the pieces of all files report, those of zero left out."""
    reader = Reader(config, tombstones=tombstones or Tombstones())
    sums: Counter[str] = Counter()
    for batch in reader.batches(0, pieces.list_pieces(config)):
        for row in batch.to_pylist():
            if row["kind"] == FILE:
                names = ("content_size", "records_size", "quarantined_size", "lines", "quarantined_lines")
                sums.update({name: row[name] for name in names})
                sums.update({one["rule"]: one["size"] for one in json.loads(row["skipped"])})
    return {name: size for name, size in sums.items() if size}


def of_lines(tmp_path: Path, content: bytes, name: str = "a.jsonl") -> Configuration:
    (tmp_path / name).write_bytes(content)
    return configuration(tmp_path, [{"format": "jsonl", "path": str(tmp_path / name)}])


EXPECTED = {
    "content_size": len(LINES),
    "records_size": 42 + 41,
    "quarantined_size": 7 + 41,
    "byte_order_mark": 3,
    "blank_line": 2,
    "line_end": 5,
    "lines": 4,
    "quarantined_lines": 2,
}


@pytest.mark.parametrize("size", [1, 50, 1000])
def test_lines_add_up_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(JsonLinesFormat, "piece_bytes", size)
    assert sizes(of_lines(tmp_path, LINES)) == EXPECTED


def test_the_content_of_a_compressed_file_is_counted(tmp_path: Path) -> None:
    assert sizes(of_lines(tmp_path, gzip.compress(LINES), "a.jsonl.gz")) == EXPECTED
    damaged = sizes(of_lines(tmp_path, bz2.compress(LINES * 20000)[:-50], "a.jsonl.bz2"))
    skipped = sum(damaged.get(rule, 0) for rule in ("byte_order_mark", "blank_line", "line_end"))
    assert (
        damaged["content_size"] == damaged["records_size"] + damaged["quarantined_size"] + skipped > 1 << 20
    )


def test_csv_counts_its_header_and_the_lines_of_its_records(tmp_path: Path) -> None:
    content = b'id,label,text\r\na,x,"one\ntwo"\n\nb,x\nc,,"three\nfour"\n'
    (tmp_path / "a.csv").write_bytes(content)
    config = configuration(tmp_path, [{"format": "csv", "path": str(tmp_path / "a.csv")}])
    assert sizes(config) == {
        "content_size": len(content),
        "header": 14,
        "records_size": 13,
        "quarantined_size": 3 + 15,
        "line_end": 5,
        "lines": 5,
        "quarantined_lines": 3,
    }


def test_front_matter_is_one_record(tmp_path: Path) -> None:
    content = b"---\nid: a\nlabel: x\n---\none\ntwo\n"
    (tmp_path / "a.md").write_bytes(content)
    config = configuration(tmp_path, [{"format": "front_matter", "path": str(tmp_path / "a.md")}])
    assert sizes(config) == {"content_size": len(content), "records_size": len(content), "lines": 1}


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_parquet_counts_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(ParquetFormat, "piece_bytes", size)
    table = pa.table({"id": [*"abcde"], "label": [*"xx", None, *"yy"], "text": ["word"] * 5})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    config = configuration(tmp_path, [{"format": "parquet", "path": str(tmp_path / "a.parquet")}])
    assert sizes(config) == {
        "content_size": 5,
        "records_size": 4,
        "quarantined_size": 1,
        "lines": 5,
        "quarantined_lines": 1,
    }


def test_an_erased_record_is_skipped(tmp_path: Path) -> None:
    erased = Tombstones(raws=frozenset([raw_sha256(b"no json")]))
    expected = {**EXPECTED, "quarantined_size": 41, "forgotten": 7, "quarantined_lines": 1}
    assert sizes(of_lines(tmp_path, LINES), erased) == expected


def test_content_that_a_format_leaves_unread_does_not_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.sources.files.jsonl.read_lines", lambda *_: iter(()))
    assert sizes(of_lines(tmp_path, LINES)) == {"content_size": len(LINES)}
