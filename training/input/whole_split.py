"""Rows of the published shards as one matrix, for baselines that learn from the same features as the model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.progress import log
from common.storage import Storage
from schemas.manifest import Column, Manifest
from training.input.class_balance import repeats_of
from training.input.columns import Arrays, to_array
from training.input.shards import read_row_groups

MOST_BYTES = 1 << 30
"""Bytes of all rows as float32 above which no baseline learns from them; it takes up to four times as much memory."""
MOST_CODES = 100
"""Codes of a category with a column of their own; rarer ones, whose codes are larger, share one."""


@dataclass(frozen=True)
class Rows:
    """All rows of a split, in the order of its shards."""

    keys: npt.NDArray[np.uint64]
    """(rows, 2): record keys."""
    labels: npt.NDArray[np.int64] | None
    """(rows,): label indices; None without a label column."""
    arrays: Arrays
    """Feature columns by name, (rows, *shape)."""
    taken: npt.NDArray[np.bool_]
    """(rows,): True for the rows that an epoch takes."""

    def matrix(self, features: Sequence[Column]) -> npt.NDArray[np.float32]:
        """Return numbers as they are and categories as ones and zeros, side by side: (rows, width)."""
        parts = [np.zeros((len(self.keys), 0), np.float32)]
        for feature in features:
            values = self.arrays[feature.name].reshape(len(self.keys), math.prod(feature.shape))
            if feature.vocabulary is None:
                parts.append(values.astype(np.float32))
            else:
                codes = _width(feature)
                parts.append(np.eye(codes, dtype=np.float32)[np.where(values[:, 0] < codes, values[:, 0], 0)])
        return np.concatenate(parts, axis=1)


def _width(feature: Column) -> int:
    """Return the columns of a matrix that a feature takes."""
    return math.prod(feature.shape) if feature.vocabulary is None else min(feature.vocabulary, MOST_CODES)


def too_wide(features: Sequence[Column], rows: int) -> bool:
    """Return True, and say so, where the matrix of so many rows is too large to learn a baseline from."""
    width = sum(map(_width, features))
    size = 4 * rows * width
    if size > MOST_BYTES:
        log(
            f"no baseline: the rows, of {width:,} numbers each, are {size / 2**30:,.1f} GiB, and it takes at most "
            f"{MOST_BYTES / 2**30:,.0f}"
        )
    return size > MOST_BYTES


def read_rows(manifest: Manifest, split: str, options: Storage) -> Rows:
    """Read a whole split but its ids. Raises DataError naming a shard that cannot be read."""
    columns = [column for column in manifest.content.columns if column.role != "id"]
    named = {column.role: column.name for column in columns}
    parts: list[Arrays] = [
        {column.name: to_array(table, column, where) for column in columns}
        for table, where in read_row_groups(manifest, split, columns, options)
    ]
    arrays = {
        column.name: np.concatenate(
            [np.zeros((0, *column.shape), column.dtype), *(part[column.name] for part in parts)]
        )
        for column in columns
    }
    labels = arrays[named["label"]].astype(np.int64) if "label" in named else None
    repeats = repeats_of(manifest, split, options)
    taken = np.ones(len(arrays[named["key"]]), bool)
    if repeats is not None and labels is not None:
        taken = repeats[labels] > 0
    return Rows(arrays[named["key"]], labels, arrays, taken)
