"""What is read from the shards: exactly the files of the manifest, and their columns as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.errors import DataError
from schemas.manifest import Column, Manifest
from schemas.settings import Storage

Arrays = dict[str, npt.NDArray[Any]]
"""By column name: (rows, *shape) arrays, read-only views of Arrow's memory where the file's storage allows it."""


@dataclass(frozen=True)
class SplitFiles:
    """The files of a split and what is to be read from them."""

    locations: tuple[str, ...]
    row_groups: tuple[tuple[int, ...], ...]
    """Rows of each row group, by file, as in the manifest."""
    columns: tuple[Column, ...]
    options: Storage | None = None

    @classmethod
    def of(
        cls, manifest: Manifest, split: str, columns: Sequence[Column], options: Storage | None = None
    ) -> "SplitFiles":
        """Exactly the files that the manifest names for a split: no directory is ever listed."""
        shards = [shard for shard in manifest.splits[split].shards if shard.rows]
        return cls(
            tuple(manifest.shard_uri(shard) for shard in shards),
            tuple(tuple(shard.row_groups) for shard in shards),
            tuple(columns),
            options,
        )

    def place(self, row_group: int) -> tuple[int, int]:
        """File and row group in it, of a row group numbered within the split."""
        for file, sizes in enumerate(self.row_groups):
            if row_group < len(sizes):
                return file, row_group
            row_group -= len(sizes)
        raise IndexError(row_group)


def row_bytes(columns: Sequence[Column]) -> int:
    """Decoded bytes of a row, Arrow's offsets of binary columns included."""
    total = 0
    for column in columns:
        total += element_type(column).itemsize * int(np.prod(column.shape, dtype=np.int64))
        total += 4 if column.storage == "binary" else 0
    return total


def element_type(column: Column) -> np.dtype[Any]:
    """The dtype of a column's elements as they lie in the file (little-endian)."""
    return np.dtype("u1") if column.dtype == "bytes" else np.dtype(column.dtype).newbyteorder("<")


def to_array(table: pa.Table, column: Column, where: str) -> npt.NDArray[Any]:
    """A column of a row group as (rows, *shape); a view of Arrow's buffer where it came in one chunk.

    Raises DataError where it is missing, holds a null, or a value does not have the length that the manifest says.
    """
    if column.name not in table.column_names:
        raise DataError(f"{where} has no column {column.name!r}; publish the data set again")
    chunked = table.column(column.name)
    array = chunked.chunk(0) if chunked.num_chunks == 1 else chunked.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # what combine_chunks returns for no chunks at all
        array = pa.array([], chunked.type)
    if array.null_count:
        raise DataError(f"{where} has empty values in the column {column.name!r}; publish the data set again")
    shape = (len(array), *column.shape)
    if not pa.types.is_binary(array.type):
        return np.asarray(array).reshape(shape)
    dtype = element_type(column)
    width = dtype.itemsize * int(np.prod(column.shape, dtype=np.int64))
    _, offset_buffer, values = array.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int32)[array.offset : array.offset + len(array) + 1]
    if not (np.diff(offsets) == width).all():
        raise DataError(
            f"{where} has values in the column {column.name!r} that are not {width} bytes long; "
            "publish the data set again"
        )
    if len(array) == 0:
        return np.zeros(shape, dtype=dtype)
    items = len(array) * width // dtype.itemsize
    return np.frombuffer(values, dtype=dtype, count=items, offset=int(offsets[0])).reshape(shape)
