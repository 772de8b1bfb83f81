"""Records in quarantine: their rows, their raw bytes, and their export into files."""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from common.errors import DataError, UsageError
from etl.images.redaction import LEFT_OUT
from etl.lake.log import open_table
from etl.lake.tombstones import FORGOTTEN
from etl.sources.content.streams import MAX_RAW_BYTES, compression_of
from etl.sources.files.csv import CsvFile
from etl.sources.files.formats import FilePart, formats
from etl.sources.files.zeek import beginning
from schemas.config import Configuration
from schemas.sources.csv import Csv
from schemas.sources.zeek import Zeek
from schemas.tables import Layout

PLACE = ["source_index", "source_path", "source_position"]


BATCH_ROWS = 16
"""Rows whose raw bytes are held at a time: each has up to 64 MiB of them."""


def quarantined(config: Configuration, reasons: Sequence[str] = ()) -> tuple[DeltaTable, pa.Table]:
    """Return the table bronze/quarantine, and its rows without the raw bytes by source and position.

    `reasons` restricts the rows to these reasons, if there are any. Raises UsageError where nothing was ingested yet,
    or no record is quarantined for one of them.
    """
    uri = Layout.of(config).quarantine
    table = open_table(uri, config.storage)
    if table is None:
        raise UsageError(f"there is no table {uri}; run the stage ingest first")
    rows = table.to_pyarrow_dataset().to_table(columns=[*PLACE, "reason", "detail"])
    return table, _with_reasons(rows, reasons, "is in quarantine for the reason")


def filtered(config: Configuration, rules: Sequence[str] = ()) -> tuple[DeltaTable, pa.Table]:
    """Return the table silver/fields, and its rows that a rule filtered, with the columns of `quarantined`.

    `rules` restricts the rows to these, if there are any. Raises UsageError where nothing was cleaned yet, or none of
    these filtered anything.
    """
    uri = Layout.of(config).fields
    table = open_table(uri, config.storage)
    if table is None:
        raise UsageError(f"there is no table {uri}; run the stage clean first")
    is_filtered = pc.field("filtered_by").is_valid()
    found = table.to_pyarrow_dataset().to_table(columns=[*PLACE, "filtered_by"], filter=is_filtered)
    rows = found.rename_columns([*PLACE, "reason"]).append_column("detail", pa.array([""] * len(found)))
    return table, _with_reasons(rows, rules, "was filtered by the rule")


def _with_reasons(rows: pa.Table, reasons: Sequence[str], what: str) -> pa.Table:
    """Return the rows with one of the reasons (all if there are none), by source and position."""
    for reason in reasons:
        if not pc.any(pc.equal(rows["reason"], reason)).as_py():
            known = ", ".join(sorted(set(rows["reason"].to_pylist()))) or "none at all"
            raise UsageError(f"nothing {what} {reason!r}; there is {known}")
    if reasons:
        rows = rows.filter(pc.is_in(rows["reason"], pa.array(reasons)))
    return rows.sort_by([(name, "ascending") for name in PLACE])


def with_content(table: DeltaTable, rows: pa.Table, column: str = "raw") -> Iterator[dict[str, Any]]:
    """Yield these rows with their raw bytes, or another column, a few at a time, in any order."""
    if not len(rows):
        return
    paths = pc.unique(rows["source_path"])
    wanted = set(map(_place, rows.select(PLACE).to_pylist()))
    scanned = table.to_pyarrow_dataset().to_batches(
        columns=[*PLACE, *(["reason", "detail"] if column == "raw" else []), column],
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
    """Return the file and the position of the record that a row is about."""
    return tuple(row[name] for name in PLACE)


def export(config: Configuration, table: DeltaTable, rows: pa.Table, folder: Path) -> Counter[str]:
    """Write raw records into files below `folder`; return how many were exported, cut off or had no bytes.

    Records of CSV files and of Zeek's logs get the header of their file, rows of binary formats become JSON lines.
    Raises UsageError where the folder is not empty, and DataError where a header is no longer readable.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(
            f"{folder} is not empty; name another folder, so that no repaired file is overwritten"
        )
    done: Counter[str] = Counter()
    files: dict[tuple[int, str], Path] = {}
    places = set(map(_place, rows.select(PLACE).to_pylist()))
    for row in with_content(table, rows):
        raw = row["raw"] or b""
        kind = (
            "forgotten"
            if row["reason"] == FORGOTTEN
            else "without bytes"
            if not raw
            else "image left out"
            if config.image_features() and LEFT_OUT in raw.decode("utf-8", "replace")
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
                out.write(_header(config, *source, places))
            out.write(raw if config.source[row["source_index"]].format == "front_matter" else raw + b"\n")
    return done


def exported_name(config: Configuration, source_index: int, path: str) -> str:
    """Return the relative path of a source file's exported records: its own path without the compression suffix."""
    suffix = compression_of(path)
    name = path[: -len(suffix)] if suffix is not None else path
    ending = ".jsonl" if formats()[config.source[source_index].format].random_access else ""
    return f"{source_index}/{name}{ending}"


def _free(file: Path, taken: set[Path]) -> Path:
    """Return the file, with a number in its name where another source file (`a.csv` for `a.csv.gz`) has it already."""
    number = 1
    free = file
    while free in taken:
        number += 1
        free = file.with_name(f"{file.stem}-{number}{file.suffix}")
    return free


def _private(file: Path) -> Any:
    """Open a file for appending that only its owner may read."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return open(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")


def _header(
    config: Configuration, source_index: int, path: str, places: Collection[tuple[Any, ...]]
) -> bytes:
    """Return the header of a CSV file or of a log of Zeek; empty for other formats, for a configured header and for
    one that is among the rows with these places.
    """
    source = config.source[source_index]
    if not isinstance(source, Csv | Zeek) or (isinstance(source, Csv) and source.header is not None):
        return b""
    for file in formats()[source.format].files(source, source_index, config.storage):
        if file.path == path:
            part = FilePart.of(file, source, config.storage)
            if isinstance(source, Zeek):
                lines, positions = beginning(part)
                return b"" if any((source_index, path, place) in places for place in positions) else lines
            opened = CsvFile(part, source, ())
            for record in opened.records:
                part.close()
                # A header with broken quotes is in quarantine itself, with everything that it swallowed.
                place = record.line.position
                if part.transcoded is not None:
                    place = part.transcoded.position(place)
                if record.problem is not None or (source_index, path, place) in places:
                    return b""
                named = opened.records.skipped["separator_line"] > 0
                sign = b"sep=" + opened.dialect.delimiter + b"\n" if named else b""
                return sign + record.line.content + b"\n"
    raise DataError(f"{path} is no longer there, so that the header of its records is not known: restore it")
