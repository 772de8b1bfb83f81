"""Bytes of a shard: how they are stored, their hash while they are written, and those of its fixed-width columns."""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import CheckError
from schemas.manifest import WIDE_ROW

COMPRESSION = "lz4"
"""docs/performance.md has the sizes and reading speeds of the alternatives that were compared."""


class HashingFile:
    """File that is hashed while it is written; Parquet is written front to back, so no byte comes twice."""

    def __init__(self, file: Any) -> None:
        self.file, self.digest, self.size = file, hashlib.sha256(), 0
        self.closed = False

    def write(self, content: Any) -> int:
        view = memoryview(content)
        self.digest.update(view)
        self.size += view.nbytes
        self.file.write(view)
        return view.nbytes

    def flush(self) -> None:
        self.file.flush()

    def tell(self) -> int:
        return self.size

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def of_fixed_width(array: pa.Array, part: pa.Field) -> pa.Array:
    """Return Spark's binary values as Parquet's FIXED_LEN_BYTE_ARRAY, which spares readers the offsets; others
    unchanged.
    """
    if not pa.types.is_fixed_size_binary(part.type) or array.type == part.type:
        return array
    width = part.type.byte_width
    _, offset_buffer, values = array.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int32)[array.offset : array.offset + len(array) + 1]
    if array.null_count or not (np.diff(offsets) == width).all():
        raise CheckError(f"silver/encoded has values of {part.name!r} that are not {width} bytes long")
    sliced = values.slice(int(offsets[0]), len(array) * width)
    return pa.FixedSizeBinaryArray.from_buffers(part.type, len(array), [None, sliced])


def values_of(array: pa.Array) -> npt.NDArray[np.uint8]:
    """Return the bytes of a fixed-width column."""
    width = array.type.bit_width // 8
    values = np.frombuffer(array.buffers()[1], dtype=np.uint8)
    return values[array.offset * width : (array.offset + len(array)) * width]


def written_as(schema: pa.Schema, rows_per_group: int) -> dict[str, Any]:
    """Return the options of pyarrow's writer for codecs and pages.

    Wide rows are not compressed and have one page a row group, so that readers take them from the file as they are.
    """
    empty = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), empty)
    leaves = pq.read_metadata(pa.BufferReader(empty.getvalue())).schema
    # pyarrow leaves a column uncompressed that a dict of codecs does not name by its path in Parquet.
    codecs = {leaves.column(number).path: COMPRESSION for number in range(len(leaves.names))}
    wide = [
        part.name
        for part in schema
        if pa.types.is_fixed_size_binary(part.type) and part.type.byte_width >= WIDE_ROW
    ]
    options: dict[str, Any] = {"compression": {**codecs, **dict.fromkeys(wide, "none")}}
    if wide:
        options |= {"write_batch_size": rows_per_group, "data_page_size": (1 << 31) - 1}
    return options
