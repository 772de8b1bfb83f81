"""Parquet: a record is a row, its position the number of the row in the file.

Strings (plain or dictionary-encoded) are accepted as text; for the time column also timestamps, dates and numbers.
The raw bytes of a quarantined row are its configured columns as a JSON object.

A small file can expand enormously: pages are compressed, and a value that many rows share is written once. So a file
is given up where its content exceeds `max_expansion`, and fewer rows are read at a time where they are long, or share
a long value.
"""

import contextlib
import io
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.sources.contract import Contract, Moment, NotScalar, NotText, Number, Truth
from etl.sources.files.formats import FilePart, Found, Rejected, SourceFormat, rejected
from etl.sources.files.streams import MAX_RECORD_BYTES, content_limit, open_plain
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
        row = 0
        try:
            with open_plain(part.location, part.options) as file:
                limit = content_limit(file.seek(0, io.SEEK_END), part.max_expansion)
                with pq.ParquetFile(file, buffer_size=READ_BYTES, pre_buffer=False) as parquet:
                    metadata = parquet.metadata
                    groups = list(owned_groups(metadata, part.start, part.end))
                    if groups and limit is not None and unpacked_bytes(metadata) > limit:
                        yield too_large(0, part.max_expansion)  # no piece of the file is read
                        return
                    given = 0
                    for group, first in groups:
                        row = first
                        shared = longest_shared(file, metadata, group, contract.needed)
                        for found in _rows(parquet, group, first, contract, shared):
                            given += _size(found)
                            if limit is not None and given > limit:
                                yield too_large(found.position, part.max_expansion)
                                return
                            yield found
                            row = found.position + 1
        # pyarrow reports damage as ArrowException or as an OSError without a number; one with a number is the
        # system's.
        except (OSError, pa.ArrowException) as error:
            kind = "cannot be read" if getattr(error, "errno", None) else "is not Parquet or is damaged"
            yield Rejected(row, b"", "unreadable_file", f"the file {kind} from row {row:,} on", damaged=True)
        except UnicodeDecodeError:  # pyarrow's, of the names in the footer; values are decoded one by one
            detail = f"the name of a column is not valid UTF-8: nothing is read from row {row:,} on"
            yield Rejected(row, b"", "unreadable_file", detail, damaged=True)

    def columns(
        self, part: FilePart, settings: SourceSettings, contract: Contract
    ) -> Iterator[tuple[Collection[str], int]]:
        """Yield the columns of the schema."""
        with contextlib.suppress(OSError, pa.ArrowException, UnicodeDecodeError):  # `read` tells of each
            with open_plain(part.location, part.options) as file:
                names = pq.read_schema(file).names
            yield names, 0


def too_large(row: int, max_expansion: int | None) -> Rejected:
    """Return the one row for the rest of a file that expands beyond its limit."""
    detail = (
        f"the content is more than {max_expansion:,} times as large as the file (`max_expansion` of its [[source]]): "
        f"nothing is read from row {row:,} on"
    )
    return Rejected(row, b"", "too_large_content", detail, damaged=True)


def unpacked_bytes(metadata: pq.FileMetaData) -> int:
    """Return the decompressed size of the pages of all columns, in bytes."""
    return sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))


def longest_shared(file: IO[bytes], metadata: pq.FileMetaData, group: int, names: Iterable[str]) -> int:
    """Return the bytes of the longest value that rows of a row group may share, from these columns' dictionaries.

    Dictionaries of chunks of up to SMALL_CHUNK are skipped.
    """
    if metadata.row_group(group).total_byte_size <= SMALL_CHUNK:
        return 0
    wanted = set(names)
    chunks = map(metadata.row_group(group).column, range(metadata.num_columns))
    shared = [
        chunk.path_in_schema
        for chunk in chunks
        if chunk.path_in_schema in wanted
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
        if batch is None:  # a row group without rows
            continue
        column = batch.column(0)
        if pa.types.is_dictionary(column.type):
            longest = max(longest, pc.max(pc.binary_length(column.dictionary)).as_py() or 0)
    return longest


def _size(row: Found | Rejected) -> int:
    """Return the size of a row: the characters of its strings, or its raw bytes."""
    if isinstance(row, Rejected):
        return len(row.raw)
    return sum(len(value) for value in row.values.values() if isinstance(value, str))


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
    parquet: pq.ParquetFile, group: int, first: int, contract: Contract, shared: int
) -> Iterator[Found | Rejected]:
    schema = parquet.schema_arrow
    wanted = [name for name in contract.needed if schema.get_field_index(name) >= 0]
    repeated = [name for name in contract.needed if schema.names.count(name) > 1]
    if repeated or not wanted:
        reason, detail = "missing_column", f"the file has none of the columns {', '.join(contract.needed)}"
        if repeated:
            reason, detail = "duplicate_column", f"the file has more than one column {repeated[0]!r}"
        for row in range(parquet.metadata.row_group(group).num_rows):
            yield Rejected(first + row, b"{}", reason, detail)
        return
    position = first
    rows_at_a_time = batch_rows(parquet.metadata.row_group(group), shared)
    for batch in parquet.iter_batches(rows_at_a_time, row_groups=[group], columns=wanted):
        columns = {
            name: list(_values(batch.column(name), name == contract.time or name in contract.typed))
            for name in wanted
        }
        for place in range(batch.num_rows):
            values = {name: column[place] for name, column in columns.items()}
            found = Found(position, 0, b"", values)
            if _size(found) > MAX_RECORD_BYTES:
                detail = f"the row has more than {MAX_RECORD_BYTES:,} characters"
                yield rejected(position, raw_row(values), "too_long", detail)
            else:
                yield found
            position += 1


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


def _values(array: pa.Array, may_be_time: bool) -> Iterator[object]:
    """Yield the values of a column in the types of the contract."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield from _strings(array)
    elif may_be_time and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        zone = "Z" if pa.types.is_timestamp(kind) and kind.tz is not None else ""
        # Without its zone a timestamp is the same moment in UTC, and no time zone database is needed.
        plain = array.cast(pa.int64()).cast(pa.timestamp(kind.unit)) if zone else array
        texts = plain.cast(pa.string()).to_pylist()
        yield from (None if text is None else Moment(text + zone) for text in texts)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        yield from (None if value is None else Number(value) for value in array.to_pylist())
    elif pa.types.is_boolean(kind):
        yield from (
            None if value is None else Truth("true" if value else "false") for value in array.to_pylist()
        )
    else:
        yield from (None if not valid else NotScalar() for valid in array.is_valid().to_pylist())


def _strings(array: pa.Array) -> Iterator[object]:
    binary = pa.large_binary() if pa.types.is_large_string(array.type) else pa.binary()
    for value in array.cast(binary).to_pylist():
        if value is None:
            yield None
            continue
        try:
            yield value.decode()
        except UnicodeDecodeError:
            yield NotText()


FORMAT = ParquetFormat()
