"""Rows of a fixed number of bytes, as the shards hold them."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def fixed_rows(rows: npt.NDArray[np.number[Any]]) -> pa.Array:
    """Return a binary array whose element i is the bytes of `rows[i]`; rows of shape (n, length), C order."""
    count, width = rows.shape[0], rows.shape[1] * rows.itemsize
    offsets = np.arange(count + 1, dtype=np.int64) * width
    if offsets[-1] >= 2**31:
        raise OverflowError("a batch of encoded rows is larger than 2 GiB")
    buffers = [None, pa.py_buffer(offsets.astype(np.int32).tobytes()), pa.py_buffer(rows.tobytes())]
    return pa.Array.from_buffers(pa.binary(), count, buffers)
