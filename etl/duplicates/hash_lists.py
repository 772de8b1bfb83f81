"""Lists of hashes as values of a binary column: concatenated, in the byte order of the given type.

Spark and Parquet copy such a value as a whole, whereas they would handle each element of a list on its own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]


def packed(values: npt.NDArray[Any], offsets: Ints) -> pa.Array:
    """Return a binary array of n values from the lists values[offsets[i]:offsets[i + 1]]; offsets int64 (n + 1,).

    `values` (1-D) may have any type of fixed size. Raises OverflowError where the lists have 2 GiB or more together.
    """
    width = values.itemsize
    if width * int(offsets[-1] - offsets[0]) >= 2**31:
        raise OverflowError("a batch of hashes is larger than 2 GiB")
    held = np.ascontiguousarray(values[offsets[0] : offsets[-1]])
    places = (width * (offsets - offsets[0])).astype(np.int32)
    buffers = [None, pa.py_buffer(places), pa.py_buffer(held.view(np.uint8))]
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)


def unpacked(array: pa.Array | pa.ChunkedArray, dtype: str = "<i8") -> tuple[npt.NDArray[Any], Ints]:
    """Unpack a binary or large_binary array without nulls, as the inverse of `packed`: (values, offsets).

    Raises TypeError for an array of another type, such as the lists that earlier versions of the tables held.
    """
    if not (pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type)):
        raise TypeError(
            f"hashes are held as binary values, not as {array.type}: run the stage deduplicate again"
        )
    width = np.dtype(dtype).itemsize
    values, sizes = [np.empty(0, dtype)], [np.empty(0, np.int64)]
    for chunk in array.chunks if isinstance(array, pa.ChunkedArray) else [array]:
        if len(chunk):
            wide = np.int64 if pa.types.is_large_binary(chunk.type) else np.int32
            _, offset_buffer, data = chunk.buffers()
            offsets = np.frombuffer(offset_buffer, wide)[chunk.offset : chunk.offset + len(chunk) + 1]
            begin, end = int(offsets[0]), int(offsets[-1])
            if end > begin:
                values.append(np.frombuffer(data, dtype, count=(end - begin) // width, offset=begin))
            sizes.append(np.diff(offsets).astype(np.int64) // width)
    whole = values[1] if len(values) == 2 else np.concatenate(values)
    return whole, np.concatenate(([0], np.cumsum(np.concatenate(sizes))))


def owners(hashes: Sequence[bytes], seen: set[bytes]) -> npt.NDArray[np.bool_]:
    """Return True for the first row of each hash that is not in `seen`, to which it is added; bool (rows,)."""
    found = np.zeros(len(hashes), dtype=bool)
    for row, digest in enumerate(hashes):
        if digest not in seen:
            seen.add(digest)
            found[row] = True
    return found
