"""Parquet: a record is a row, its position the number of the row in the file.

Strings (plain or dictionary-encoded) are taken for text; for the time column also timestamps, dates and numbers. The
raw bytes of a quarantined row are its configured columns as a JSON object.
"""

import json
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from etl.sources.contract import Contract, Moment, NotScalar, NotText, Number, Truth
from etl.sources.formats import Found, Part, Rejected, SourceFormat
from etl.sources.streams import open_plain
from schemas.settings import Source

BATCH_ROWS = 512


class ParquetFormat(SourceFormat):
    """`format = "parquet"`"""

    name = "parquet"
    piece_bytes = 128 << 20
    random_access = True

    def read(self, part: Part, settings: Source, contract: Contract) -> Iterator[Found | Rejected]:
        row = 0
        try:
            with open_plain(part.location, part.options) as file, pq.ParquetFile(file) as parquet:
                for group, first in owned_groups(parquet.metadata, part.start, part.end):
                    row = first
                    for found in _rows(parquet, group, first, contract):
                        yield found
                        row = found.position + 1
        # pyarrow reports damage as ArrowException or as an OSError without a number; one with a number is the system's.
        except (OSError, pa.ArrowException) as error:
            kind = "cannot be read" if getattr(error, "errno", None) else "is not Parquet or is damaged"
            yield Rejected(row, b"", "unreadable_file", f"the file {kind} from row {row:,} on", damaged=True)


def owned_groups(metadata: pq.FileMetaData, start: int, end: int | None) -> Iterator[tuple[int, int]]:
    """The row groups that begin in the bytes [start, end), each with the number of its first row."""
    first = 0
    for group in range(metadata.num_row_groups):
        facts = metadata.row_group(group)
        offset = 0
        if facts.num_columns:
            column = facts.column(0)
            offset = min(o for o in (column.dictionary_page_offset, column.data_page_offset) if o is not None)
        if offset >= start and (end is None or offset < end):
            yield group, first
        first += facts.num_rows


def _rows(parquet: pq.ParquetFile, group: int, first: int, contract: Contract) -> Iterator[Found | Rejected]:
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
    for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=wanted):
        columns = {
            name: list(_values(batch.column(name), name == contract.time or name in contract.typed))
            for name in wanted
        }
        for place in range(batch.num_rows):
            values = {name: column[place] for name, column in columns.items()}
            yield Found(position, 0, b"", values)
            position += 1


def raw_row(values: Mapping[str, object]) -> bytes:
    """The configured columns of a row as JSON, for the quarantine."""
    shown = {
        name: value if value is None or isinstance(value, str) else "(not text)"
        for name, value in values.items()
    }
    return json.dumps(shown, ensure_ascii=False).encode()


def _values(array: pa.Array, may_be_time: bool) -> Iterator[object]:
    """The values of a column as the contract knows them."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield from _strings(array)
    elif may_be_time and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        zone = "Z" if pa.types.is_timestamp(kind) and kind.tz is not None else ""
        # Without its zone a timestamp is the same moment in UTC; no database of time zones is asked.
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
