"""Files with bytes altered, removed, inserted or cut off at random: nothing crashes, and every record is counted."""

import bz2
import gzip
import io
import json
import random
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from pyarrow import orc

from etl.sources.files.pieces import list_pieces
from etl.sources.reading import FILE, QUARANTINE, RECORD, Reader
from tests.etl.sources.source_files import configuration

ROWS = 12
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def texts() -> list[str]:
    return [f'words of the "text" {n}, é and \U0001f600' for n in range(ROWS)]


def json_lines() -> bytes:
    return "".join(
        json.dumps({"id": f"{n}", "label": "x", "text": text, "more": [n, {"a": None}]}) + "\n"
        for n, text in enumerate(texts())
    ).encode()


def table() -> bytes:
    rows = [f'{n},x,"{text.replace(chr(34), chr(34) * 2)}"\r\n' for n, text in enumerate(texts())]
    return ("id,label,text\r\n" + "".join(rows)).encode()


def front_matter() -> bytes:
    return "---\nid: a\nlabel: x\nmore: [1, {b: 2}, &a c, *a]\n---\nThe text é of it.\n".encode()


def parquet() -> bytes:
    columns = {
        "id": [str(n) for n in range(ROWS)],
        "label": ["x"] * ROWS,
        "text": texts(),
        "añadido": [1.5] * ROWS,
    }
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, row_group_size=ROWS // 2)
    return file.getvalue()


def json_array() -> bytes:
    records = [json.loads(line) for line in json_lines().splitlines()]
    return json.dumps(records[: ROWS // 2], indent=1).encode() + json.dumps(records[ROWS // 2 :]).encode()


def optimised_rows() -> bytes:
    columns = {"id": [str(n) for n in range(ROWS)], "label": ["x"] * ROWS, "text": texts()}
    file = io.BytesIO()
    orc.write_table(pa.table(columns), file, compression="zlib")
    return file.getvalue()


def zeek() -> bytes:
    rows = [f"{n}\tx\t{text}\\x09\t{n}\n" for n, text in enumerate(texts())]
    header = "#separator \\x09\n#unset_field\t-\n#fields\tid\tlabel\ttext\tn\n#types\tstring\tenum\tstring\tcount\n"
    return (header + "".join(rows) + "#close\t2024\n").encode()


FILES: dict[str, Callable[[], bytes]] = {
    "jsonl": json_lines,
    "json": json_array,
    "csv": table,
    "front_matter": front_matter,
    "zeek": zeek,
    "parquet": parquet,
    "orc": optimised_rows,
}
BINARY = ("parquet", "orc")
CASES = [(name, suffix) for name in FILES for suffix in PACK if name not in BINARY or not suffix]


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Alter up to four places; signs of the formats are inserted more often than other bytes."""
    altered = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(altered) + 1)
        kind = rng.randrange(5)
        if kind == 0 and place < len(altered):
            altered[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del altered[place : place + rng.choice((1, 2, 30))]
        elif kind == 2:
            altered[place:place] = rng.choice(
                (b'"', b"\\", b"\n", b"\0", b"{", b"\xff", b"---\n", rng.randbytes(8))
            )
        elif kind == 3:
            begin = rng.randrange(len(altered) + 1)
            altered[place:place] = altered[begin : begin + rng.choice((1, 40))]
        else:
            del altered[place if place else len(altered) // 2 :]
    return bytes(altered)


def damaged_footer(content: bytes, rng: random.Random) -> bytes:
    """Alter up to four places in the footer of a Parquet file, keeping its length right."""
    size = struct.unpack("<I", content[-8:-4])[0]
    footer = bytearray(content[-8 - size : -8])
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(footer))
        kind = rng.randrange(4)
        if kind == 0:
            footer[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            footer[place] = rng.randrange(256)
        elif kind == 2:
            del footer[place : place + rng.choice((1, 2, 8))]
        else:
            footer[place:place] = rng.randbytes(rng.choice((1, 2, 8)))
    return content[: -8 - size] + bytes(footer) + struct.pack("<I", len(footer)) + b"PAR1"


def outcomes_add_up(
    name: str,
    suffix: str,
    root: Path,
    seeds: Iterable[int],
    mutated: Callable[[bytes, random.Random], bytes] = mutated,
) -> set[str]:
    """Read a mutated file for each seed; return the reasons for which records were quarantined."""
    whole = PACK[suffix](FILES[name]())
    file = root / f"a.{name}{suffix}"
    file.touch()
    config = configuration(root, [{"format": name, "path": str(file)}])
    found: set[str] = set()
    for seed in seeds:
        rng = random.Random(seed)
        # Every other time the uncompressed content is altered instead of the compressed bytes.
        inside = suffix and seed % 2
        file.write_bytes(PACK[suffix](mutated(FILES[name](), rng)) if inside else mutated(whole, rng))
        batches = list(Reader(config).batches(0, list_pieces(config)))
        rows = [row for batch in batches for row in batch.to_pylist()]
        of_file = [row for row in rows if row["kind"] == FILE]
        rejected = [row for row in rows if row["kind"] == QUARANTINE]
        records = [row for row in rows if row["kind"] == RECORD]
        assert len(records) + len(rejected) == sum(row["records"] for row in of_file), seed
        assert len(rejected) == sum(row["quarantined"] for row in of_file), seed
        for row in rejected:
            assert row["reason"], seed
            assert row["detail"], seed
        for row in records:
            assert "".join(value for key, value in row.items() if key.startswith("column_") and value), seed
        found |= {row["reason"] for row in rejected}
    return found


@pytest.mark.parametrize(("name", "suffix"), CASES)
def test_mutated_files_are_read_to_their_end(name: str, suffix: str, tmp_path: Path) -> None:
    assert len(outcomes_add_up(name, suffix, tmp_path, range(100))) >= 3 - 2 * (name in BINARY)


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "suffix"), CASES)
def test_thousands_of_mutated_files_are_read_to_their_end(name: str, suffix: str, tmp_path: Path) -> None:
    outcomes_add_up(name, suffix, tmp_path, range(100, 3_000))


FATAL = (1663, 1959, 2136, 2218, 2830, 2969, 3177, 4364, 5610, 6835, 6994)
"""Footers, of 6,000, at which pyarrow 26 ends the process once it is asked about their columns."""


def test_damaged_footers_do_not_end_the_process(tmp_path: Path) -> None:
    assert "unreadable_file" in outcomes_add_up("parquet", "", tmp_path, FATAL, damaged_footer)
