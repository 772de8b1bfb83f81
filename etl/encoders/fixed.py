"""Rows of bytes in Arrow: of a fixed number, as the shards hold them, or of any."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def fixed_rows(rows: npt.NDArray[np.number[Any]]) -> pa.Array:
    """Return a binary array whose element i is the bytes of `rows[i]`; rows of shape (n, length), C order."""
    return rows_of_any_width(rows.reshape(-1), np.full(rows.shape[0], rows.shape[1]))


def rows_of_any_width(items: npt.NDArray[np.number[Any]], counts: npt.NDArray[np.integer[Any]]) -> pa.Array:
    """Return a binary array whose elements are the bytes of `counts[i]` items each, which `items` has end to end."""
    offsets = np.concatenate(([0], np.cumsum(counts, dtype=np.int64))) * items.itemsize
    if offsets[-1] >= 2**31:
        raise OverflowError("a batch of encoded rows is larger than 2 GiB")
    buffers = [None, pa.py_buffer(offsets.astype(np.int32).tobytes()), pa.py_buffer(items.tobytes())]
    return pa.Array.from_buffers(pa.binary(), len(counts), buffers)
