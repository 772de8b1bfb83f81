"""Input from the shards: exactly the files of the manifest, and their columns as arrays."""

import bisect
import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from common.errors import DataError
from common.storage import Storage
from schemas.manifest import FIXED, WIDE_ROW, Column, Manifest
from training.input.class_balance import repeats_of

AUDITED = ("id", "documents")
"""Roles of columns that are read for audits alone, and have no part in the CRC-32 of row groups."""
Arrays = dict[str, npt.NDArray[Any]]
"""Arrays by column name: (rows, *shape), read-only views of Arrow's memory where the file's storage allows it."""


@dataclass(frozen=True)
class SplitFiles:
    """Files of a split, and the parts of them to read."""

    locations: tuple[str, ...]
    row_groups: tuple[tuple[int, ...], ...]
    """Rows of each row group, by file, as in the manifest."""
    crc32: tuple[tuple[int, ...], ...]
    """Checksum of each row group: see `schemas.manifest.Shard`."""
    columns: tuple[Column, ...]
    options: Storage | None = None
    epoch_row_groups: tuple[tuple[int, ...], ...] = ()
    """Rows that an epoch reads from each row group, repeats included, by file; () if each row is read once."""
    repeats: npt.NDArray[np.int64] | None = None
    """Repeats of rows by label index: see `training.input.class_balance.repeats_of`."""

    @classmethod
    def of(
        cls, manifest: Manifest, split: str, columns: Sequence[Column], options: Storage | None = None
    ) -> "SplitFiles":
        """Collect exactly the files that the manifest names for a split: no directory is ever listed."""
        shards = [shard for shard in manifest.splits[split].shards if shard.rows]
        return cls(
            tuple(manifest.shard_uri(shard) for shard in shards),
            tuple(tuple(shard.row_groups) for shard in shards),
            tuple(tuple(shard.row_group_crc32) for shard in shards),
            tuple(columns),
            options,
            tuple(tuple(s.epoch_row_groups) for s in shards if s.epoch_row_groups is not None),
            repeats_of(manifest, split, options),
        )

    @property
    def largest(self) -> int:
        """Rows of the largest row group."""
        return max(itertools.chain.from_iterable(self.row_groups), default=0)

    @functools.cached_property
    def _ends(self) -> list[int]:
        return list(itertools.accumulate(map(len, self.row_groups)))

    def place(self, row_group: int) -> tuple[int, int]:
        """Return the file and the number in it of a row group that is numbered within the split."""
        file = bisect.bisect_right(self._ends, row_group)
        return file, row_group - (self._ends[file - 1] if file else 0)


def row_bytes(columns: Sequence[Column]) -> int:
    """Return the decoded bytes of a row in the given columns; ids, which have any length, count as a pointer."""
    return sum(element_type(column).itemsize * math.prod(column.shape) for column in columns)


@functools.cache
def _of_name(dtype: str) -> np.dtype[Any]:
    if dtype in ("string", "documents", "bytes"):
        return np.dtype("u1") if dtype == "bytes" else np.dtype(object)
    return np.dtype(dtype).newbyteorder("<")


def element_type(column: Column) -> np.dtype[Any]:
    """Return the dtype of a column's elements as stored in the file (little-endian); strings are Python objects."""
    return _of_name(column.dtype)


def dtype_for_model(column: Column) -> torch.dtype:
    """Return int32, the smallest type that embeddings take, for codes such as token ids; any other dtype as it is.

    Pixels, which have no vocabulary, stay uint8: as floats they would be four times as many bytes.
    """
    if column.vocabulary is not None:
        return torch.int32
    return torch.from_numpy(np.zeros(0, dtype=element_type(column).newbyteorder("="))).dtype


def is_wide(column: Column) -> bool:
    """Return True for features of which a row has at least WIDE_ROW bytes, which the model takes as they are stored."""
    stored = element_type(column)
    return (
        column.role == "feature"
        and column.storage == FIXED
        and row_bytes([column]) >= WIDE_ROW
        and torch.empty(0, dtype=dtype_for_model(column)).numpy().dtype == stored
    )


def is_image(column: Column) -> bool:
    """Return True for a feature of images: (height, width, channels) levels of 0 to 255."""
    return column.role == "feature" and column.dtype == "uint8" and len(column.shape) == 3


@dataclass(frozen=True)
class Bundle:
    """Features of one element and one dtype that lie side by side in memory, so that they are copied as one; or any
    single feature.
    """

    columns: tuple[Column, ...]

    @property
    def name(self) -> str:
        """Name of the first one."""
        return self.columns[0].name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a row."""
        return tuple(self.columns[0].shape) if len(self.columns) == 1 else (len(self.columns),)

    def separated(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the tensors by feature, (rows, *shape) each, as views of (rows, *shape of the bundle)."""
        if len(self.columns) == 1:
            return {self.name: rows}
        views = torch.split(rows, 1, dim=1)
        return {column.name: view for column, view in zip(self.columns, views, strict=True)}


def bundles_of(columns: Sequence[Column], separate: bool = False) -> list[Bundle]:
    """Put features of one element together by dtype, in the order of their first ones; `separate` leaves each alone."""
    found: dict[object, list[Column]] = {}
    for column in columns:
        if column.role == "feature":
            alone = separate or column.shape != [1]
            key = column.name if alone else (element_type(column), dtype_for_model(column))
            found.setdefault(key, []).append(column)
    return [Bundle(tuple(some)) for some in found.values()]


def to_array(table: pa.Table, column: Column, where: str) -> npt.NDArray[Any]:
    """Return a column of a row group as (rows, *shape): a view of Arrow's buffer, except for strings and documents,
    which become objects.

    Raises DataError if it is missing, holds a null, or does not have the type in the manifest.
    """
    again = "publish the data set again"
    try:
        chunked = table.column(column.name)
    except KeyError as error:
        raise DataError(f"{where} has no column {column.name!r}; {again}") from error
    array = chunked.chunk(0) if chunked.num_chunks == 1 else chunked.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # what combine_chunks returns for no chunks at all
        array = pa.array([], chunked.type)
    if array.null_count:
        raise DataError(f"{where} has empty values in the column {column.name!r}; {again}")
    shape = (len(array), *column.shape)
    if column.storage == "string":
        return np.asarray(array.to_numpy(zero_copy_only=False), dtype=object)
    if column.role == "documents":
        objects = np.empty(shape, dtype=object)
        objects[:] = array.to_pylist()
        return objects
    dtype = element_type(column)
    if column.storage == FIXED:
        items = math.prod(shape)
        width = dtype.itemsize * math.prod(column.shape)
        kind = array.type
        if not pa.types.is_fixed_size_binary(kind) or kind.byte_width != width:
            raise DataError(
                f"{where} has {kind} in the column {column.name!r} instead of {width} bytes a row; {again}"
            )
        if not items:
            return np.zeros(shape, dtype=dtype)
        start = array.offset * width
        return np.frombuffer(array.buffers()[1], dtype=dtype, count=items, offset=start).reshape(shape)
    values = array.to_numpy()
    if values.dtype != dtype:
        raise DataError(
            f"{where} has {array.type} in the column {column.name!r} instead of {column.dtype}; {again}"
        )
    rows: npt.NDArray[Any] = values.reshape(shape)
    return rows
