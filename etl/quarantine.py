"""quarantine: what could not be read, and why; with `--export FOLDER` the raw records themselves, to be mended.

Prints each reason with its number of records and the first of them with personal data masked. Exported are the raw
bytes, NOT masked, in files that only their owner can read: one for each source file that has any, below the number of
its [[source]]. Mend them, name them in a [[source]] of their own, and run the pipeline again.
"""

import argparse
import html
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from common.command import configuration_parser, run
from common.errors import DataError, UsageError
from common.progress import say
from etl.lake.log import open_table
from etl.lake.tombstones import FORGOTTEN
from etl.reporting.examples import LONGEST, Mask, snippet
from etl.rules.characters import NormaliseWhiteSpace, RemoveControlCharacters
from etl.sources.files.csv import split_records, without_mark
from etl.sources.files.formats import Part
from etl.sources.files.listing import list_source
from etl.sources.files.streams import MAX_RAW_BYTES, compression_of
from schemas.cleaning import ControlCharactersRule, WhiteSpaceRule
from schemas.config import Configuration, load
from schemas.sources.csv import Csv
from schemas.tables import Layout

PLACE = ["source_index", "source_path", "source_position"]
BATCH_ROWS = 16
"""Rows whose raw bytes are held at a time: each has up to 64 MiB of them."""
ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def quarantined(config: Configuration, reasons: Sequence[str] = ()) -> tuple[DeltaTable, pa.Table]:
    """The table bronze/quarantine, and its rows without the raw bytes by source and position.

    `reasons` are the only ones that are wanted, if there are any. Raises UsageError where nothing was ingested yet,
    or no record is quarantined for one of them.
    """
    uri = Layout.of(config).quarantine
    table = open_table(uri, config.storage)
    if table is None:
        raise UsageError(f"there is no table {uri}; run the stage ingest first")
    rows = table.to_pyarrow_dataset().to_table(columns=[*PLACE, "reason", "detail"])
    for reason in reasons:
        if not pc.any(pc.equal(rows["reason"], reason)).as_py():
            known = ", ".join(sorted(set(rows["reason"].to_pylist()))) or "none at all"
            raise UsageError(f"nothing is in quarantine for the reason {reason!r}; there is {known}")
    if reasons:
        rows = rows.filter(pc.is_in(rows["reason"], pa.array(reasons)))
    return table, rows.sort_by([(name, "ascending") for name in PLACE])


def with_raw(table: DeltaTable, rows: pa.Table) -> Iterator[dict[str, Any]]:
    """These rows with their raw bytes, a few at a time and in no order."""
    if not len(rows):
        return
    paths = pc.unique(rows["source_path"])
    wanted = set(map(_place, rows.select(PLACE).to_pylist()))
    scanned = table.to_pyarrow_dataset().to_batches(
        columns=[*PLACE, "reason", "detail", "raw"],
        filter=pc.field("source_path").isin(paths),
        batch_size=BATCH_ROWS,
        batch_readahead=1,
        fragment_readahead=1,
    )
    for batch in scanned:
        for row in batch.to_pylist():
            if _place(row) in wanted:
                yield row


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Which record of which file a row is about."""
    return tuple(row[name] for name in PLACE)


def show(config: Configuration, table: DeltaTable, rows: pa.Table, examples: int) -> None:
    """Prints the reasons, most frequent first, and `examples` records of each."""
    mask = Mask(config.clean)
    counts = Counter(rows["reason"].to_pylist())
    chosen = [place for reason in counts for place in _first(rows, reason, examples)]
    raws = {_place(row): row["raw"] for row in with_raw(table, rows.take(pa.array(chosen, pa.int64())))}
    print(f"{len(rows):,} records in quarantine")
    for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        print(f"\n{reason}: {count:,}")
        for row in rows.take(pa.array(_first(rows, reason, examples), pa.int64())).to_pylist():
            raw = raws[_place(row)]
            place, detail = one_line(mask(row["source_path"])), one_line(mask(row["detail"]))
            print(f"  {place}, at {row['source_position'] or 0:,}: {detail}")
            if raw:
                print(f"    {masked(raw, mask)}")


def _first(rows: pa.Table, reason: str, count: int) -> list[int]:
    """The places in `rows` of its first records with a reason."""
    found: list[int] = pc.indices_nonzero(pc.equal(rows["reason"], reason))[:count].to_pylist()
    return found


def masked(raw: bytes, mask: Mask) -> str:
    """The beginning of a raw record in a line, personal data masked, also where escapes of JSON or HTML hide it.

    Where more is found without invisible characters and with plain spaces, it is shown so. What holds NUL bytes is not
    shown: in UTF-16, for one, no rule finds anything, and people can read it all the same.
    """
    if b"\0" in raw[:LONGEST]:
        return "(not shown: it holds NUL bytes)"
    text, cut_off = unescaped(raw[:LONGEST]), len(raw) >= LONGEST
    visible, _ = RemoveControlCharacters(ControlCharactersRule()).apply(text)
    plain, _ = NormaliseWhiteSpace(WhiteSpaceRule()).apply(visible)
    as_it_is, as_cleaned = mask.marked(text, cut_off), mask.marked(plain, cut_off)
    return snippet(as_it_is if mask.hides_as_much(as_it_is, as_cleaned) else as_cleaned)


def unescaped(raw: bytes) -> str:
    """The text of a raw record, with the characters that escapes of JSON or HTML stand for."""
    text = html.unescape(ESCAPE.sub(_unescaped, raw.decode("utf-8", "backslashreplace")))
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescaped(match: "re.Match[str]") -> str:
    code, letter = match.groups()
    return ESCAPED.get(letter, letter) if code is None else chr(int(code, 16))


def one_line(path: str) -> str:
    """A path as it is, but for characters that would break the line or have no shape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)


def export(config: Configuration, table: DeltaTable, rows: pa.Table, folder: Path) -> Counter[str]:
    """Writes raw records into files below `folder`; returns how many were exported, cut off or had no bytes.

    Records of CSV files get the header line of their file, rows of Parquet files become JSON lines. Raises UsageError
    where the folder holds anything, and DataError where a header can no longer be read.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; name another folder, so that nothing mended is overwritten")
    done: Counter[str] = Counter()
    files: dict[tuple[int, str], Path] = {}
    for row in with_raw(table, rows):
        raw = row["raw"] or b""
        kind = (
            "forgotten"
            if row["reason"] == FORGOTTEN
            else "without bytes"
            if not raw
            else "cut off"
            if len(raw) >= MAX_RAW_BYTES
            else "exported"
        )
        done[kind] += 1
        if kind != "exported":
            continue
        source = (row["source_index"], row["source_path"])
        begun = source in files
        if not begun:
            files[source] = _free(folder / exported_name(config, *source), set(files.values()))
        with _private(files[source]) as out:
            if not begun:
                out.write(_header(config, *source))
            out.write(raw if config.source[row["source_index"]].format == "front_matter" else raw + b"\n")
    return done


def exported_name(config: Configuration, source_index: int, path: str) -> str:
    """The relative path of the file for the records of a source file: as it is called, but not compressed."""
    suffix = compression_of(path)
    name = path[: -len(suffix)] if suffix is not None else path
    ending = ".jsonl" if config.source[source_index].format == "parquet" else ""
    return f"{source_index}/{name}{ending}"


def _free(file: Path, taken: set[Path]) -> Path:
    """The file, or where another source file has it (`a.csv` and `a.csv.gz`) one with a number in its name."""
    number = 1
    free = file
    while free in taken:
        number += 1
        free = file.with_name(f"{file.stem}-{number}{file.suffix}")
    return free


def _private(file: Path) -> Any:
    """A file to append to, which nobody but its owner may read."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return open(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")


def _header(config: Configuration, source_index: int, path: str) -> bytes:
    """The header line of a CSV file with its line break, empty for other formats and where the configuration has it."""
    source = config.source[source_index]
    if not isinstance(source, Csv) or source.header is not None:
        return b""
    for file in list_source(source, source_index, config.storage):
        if file.path == path:
            part = Part(file.location, config.storage)
            _, reader = part.open()
            for record in split_records(reader, source.delimiter.encode(), source.quote.encode()):
                if without_mark(record.line).strip(b"\r"):
                    part.close()
                    # One with broken quotes stands in quarantine itself, with all that it took with it.
                    return b"" if record.problem is not None else record.line.content + b"\n"
    raise DataError(f"{path} is no longer there, so that the header of its records is not known: restore it")


def main(argv: Sequence[str] | None = None) -> int:
    parser = configuration_parser("python -m etl.quarantine", __doc__)
    parser.add_argument(
        "--reason", action="append", default=[], metavar="REASON", help="only this (repeatable)"
    )
    parser.add_argument("--examples", type=_number, default=3, metavar="N", help="records shown of a reason")
    parser.add_argument(
        "--export", type=Path, metavar="FOLDER", help="write the raw records there, not masked"
    )
    arguments = parser.parse_args(argv)
    config = load(arguments.config, arguments.overrides)
    table, rows = quarantined(config, arguments.reason)
    if arguments.export is None:
        show(config, table, rows, arguments.examples)
        return 0
    done = export(config, table, rows, arguments.export)
    say(
        f"{done['exported']:,} records exported to {arguments.export}, personal data and all: mind who reads it"
    )
    for kind, why in (
        ("cut off", "only their beginning is kept"),
        ("without bytes", "their file could not be read"),
        ("forgotten", "they were erased"),
    ):
        if done[kind]:
            say(f"{done[kind]:,} records are not among them, since {why}")
    return 0


def _number(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of records")
    return number


if __name__ == "__main__":
    sys.exit(run(main))
