"""Parquet: a record is a row, its position the number of the row in the file.

Columns may lie in structs, lists and maps (etl/sources/arrow_columns.py). Strings in any layout are text, and so
are binary values in UTF-8. The raw bytes of a quarantined row are its configured columns as a JSON object.

A small file can expand enormously: pages are compressed, and a value that many rows share is written once. So a file
is given up where its content exceeds `max_expansion`, and fewer rows are read at a time where they are long, or share
a long value.
"""

import contextlib
import io
import json
from collections.abc import Collection, Iterator, Mapping
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from etl.sources.arrow_columns import ArrowColumns, dictionaries, longest_in, size_of
from etl.sources.content.streams import MAX_RECORD_BYTES, content_limit, open_plain
from etl.sources.contract import Contract
from etl.sources.files.formats import FilePart, Found, Rejected, SourceFormat, rejected
from schemas.sources import SourceSettings

BATCH_ROWS = 512
BATCH_BYTES = 32 << 20
"""Target size of a batch, in bytes, where rows are so long that BATCH_ROWS would exceed it."""
READ_BYTES = 1 << 20
"""Size of the pieces, in bytes, that column chunks are read in, and not as a whole, as `pre_buffer` would."""
SMALL_CHUNK = 512 << 10
"""Size in bytes of a column chunk of which BATCH_ROWS can be read at a time, whatever value it holds."""


class ParquetFormat(SourceFormat):
    """`format = "parquet"`"""

    name = "parquet"
    piece_bytes = 128 << 20
    random_access = True

    def read(
        self, part: FilePart, settings: SourceSettings, contract: Contract
    ) -> Iterator[Found | Rejected]:
        row, left, part.rows = 0, 0, 0
        try:
            with open_plain(part.location, part.options) as file:
                limit = content_limit(file.seek(0, io.SEEK_END), part.max_expansion)
                with pq.ParquetFile(file, buffer_size=READ_BYTES, pre_buffer=False) as parquet:
                    metadata = parquet.metadata
                    groups = list(owned_groups(metadata, part.start, part.end))
                    left = part.rows = sum(metadata.row_group(group).num_rows for group, _ in groups)
                    if groups and limit is not None and unpacked_bytes(metadata) > limit:
                        yield too_large(0, part.max_expansion, part.rows)  # no piece of the file is read
                        return
                    given, columns = 0, ArrowColumns(parquet.schema_arrow, contract)
                    for group, first in groups:
                        row = first
                        shared = longest_shared(file, metadata, group, leaves(columns))
                        for found in _rows(parquet, group, first, columns, shared):
                            given += size_of_row(found)
                            if limit is not None and given > limit:
                                yield too_large(found.position, part.max_expansion, left)
                                return
                            yield found
                            row, left = found.position + 1, left - 1
        # pyarrow reports damage as ArrowException or as an OSError without a number; one with a number is the
        # system's.
        except (OSError, pa.ArrowException) as error:
            kind = "cannot be read" if getattr(error, "errno", None) else "is not Parquet or is damaged"
            detail = f"the file {kind} from row {row:,} on"
            yield Rejected(row, b"", "unreadable_file", detail, damaged=True, size=left)
        except UnicodeDecodeError:  # pyarrow's, of the names in the footer; values are decoded one by one
            detail = f"the name of a column is not valid UTF-8: nothing is read from row {row:,} on"
            yield Rejected(row, b"", "unreadable_file", detail, damaged=True, size=left)

    def columns(
        self, part: FilePart, settings: SourceSettings, contract: Contract
    ) -> Iterator[tuple[Collection[str], int]]:
        """Yield the columns of the schema."""
        with contextlib.suppress(OSError, pa.ArrowException, UnicodeDecodeError):  # `read` tells of each
            with open_plain(part.location, part.options) as file:
                names = ArrowColumns(pq.read_schema(file), contract).names()
            yield names, 0


def too_large(row: int, max_expansion: int | None, rows: int) -> Rejected:
    """Return the one row for the rest of a file, of so many rows, that expands beyond its limit."""
    detail = (
        f"the content is more than {max_expansion:,} times as large as the file (`max_expansion` of its [[source]]): "
        f"nothing is read from row {row:,} on"
    )
    return Rejected(row, b"", "too_large_content", detail, damaged=True, size=rows)


def unpacked_bytes(metadata: pq.FileMetaData) -> int:
    """Return the decompressed size of the pages of all columns, in bytes."""
    return sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))


def longest_shared(file: IO[bytes], metadata: pq.FileMetaData, group: int, columns: Collection[str]) -> int:
    """Return the bytes of the longest value that rows of a row group may share, from these columns' dictionaries.

    Dictionaries of chunks of up to SMALL_CHUNK are skipped.
    """
    if metadata.row_group(group).total_byte_size <= SMALL_CHUNK:
        return 0
    chunks = map(metadata.row_group(group).column, range(metadata.num_columns))
    shared = [
        chunk.path_in_schema
        for chunk in chunks
        if any(
            chunk.path_in_schema == name or chunk.path_in_schema.startswith(f"{name}.") for name in columns
        )
        and chunk.physical_type == "BYTE_ARRAY"
        and chunk.total_uncompressed_size > SMALL_CHUNK
        and any("DICTIONARY" in encoding for encoding in chunk.encodings)
    ]
    longest = 0
    for name in shared:
        # The dictionary of a chunk precedes its rows, and is loaded as a whole with the first of them.
        with pq.ParquetFile(
            file, metadata=metadata, read_dictionary=[name], buffer_size=READ_BYTES, pre_buffer=False
        ) as parquet:
            batch = next(parquet.iter_batches(1, row_groups=[group], columns=[name]), None)
        if batch is not None:  # not a row group without rows
            longest = max(longest, longest_in(dictionaries(batch.column(0))))
    return longest


def size_of_row(row: Found | Rejected) -> int:
    """Return the size of a row: the characters of its strings, or its raw bytes."""
    return len(row.raw) if isinstance(row, Rejected) else size_of(row.values)


def owned_groups(metadata: pq.FileMetaData, start: int, end: int | None) -> Iterator[tuple[int, int]]:
    """Yield the row groups that begin in the bytes [start, end), each with the number of its first row."""
    first = 0
    for group in range(metadata.num_row_groups):
        facts = metadata.row_group(group)
        offset = 0
        # Asked about a column whose part of the footer is damaged, pyarrow ends the process; reading raises an error.
        if facts.num_columns and (start, end) != (0, None):
            column = facts.column(0)
            offset = min(o for o in (column.dictionary_page_offset, column.data_page_offset) if o is not None)
        if offset >= start and (end is None or offset < end):
            yield group, first
        first += facts.num_rows


def _rows(
    parquet: pq.ParquetFile, group: int, first: int, columns: ArrowColumns, shared: int
) -> Iterator[Found | Rejected]:
    refusal = columns.refusal()
    if refusal is not None:
        for row in range(parquet.metadata.row_group(group).num_rows):
            yield Rejected(first + row, b"{}", *refusal)
        return
    position = first
    rows_at_a_time = batch_rows(parquet.metadata.row_group(group), shared)
    for batch in parquet.iter_batches(rows_at_a_time, row_groups=[group], columns=leaves(columns)):
        for values in columns.rows(batch):
            yield checked_row(position, values)
            position += 1


def leaves(columns: ArrowColumns) -> list[str]:
    """Return the needed columns as Parquet's reader names them: with the structs around them, but whole lists."""
    return [".".join(map(str, steps)) for steps in columns.in_structs]


def checked_row(position: int, values: Mapping[str, object]) -> Found | Rejected:
    """Return a row, or its rejection where it is too long."""
    if size_of(values) <= MAX_RECORD_BYTES:
        return Found(position, 0, b"", values)
    detail = f"the row has more than {MAX_RECORD_BYTES:,} characters"
    return rejected(position, raw_row(values), "too_long", detail)


def batch_rows(group: pq.RowGroupMetaData, shared: int = 0) -> int:
    """Return the rows of a batch of about BATCH_BYTES, 1 to BATCH_ROWS; `shared`: extra bytes that each may have."""
    bytes_of_a_row = max(1, group.total_byte_size / max(1, group.num_rows), shared)
    return max(1, min(BATCH_ROWS, int(BATCH_BYTES / bytes_of_a_row)))


def raw_row(values: Mapping[str, object]) -> bytes:
    """Return the configured columns of a row as JSON, for the quarantine."""
    shown = {
        name: value if value is None or isinstance(value, str) else "(not text)"
        for name, value in values.items()
    }
    return json.dumps(shown, ensure_ascii=False).encode()


FORMAT = ParquetFormat()
