"""Lists of 64-bit hashes as values of a binary column: eight bytes each, little-endian.

Spark and Parquet copy such a value as a whole, where they would handle each element of a list on its own.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
WIDTH = 8


def packed(values: Ints, offsets: Ints) -> pa.Array:
    """A binary array of n values from the lists values[offsets[i]:offsets[i + 1]]; offsets int64 (n + 1,).

    Raises OverflowError where the lists are larger than 2 GiB together.
    """
    if WIDTH * int(offsets[-1] - offsets[0]) >= 2**31:
        raise OverflowError("a batch of hashes is larger than 2 GiB")
    held = np.ascontiguousarray(values[offsets[0] : offsets[-1]], dtype="<i8")
    places = (WIDTH * (offsets - offsets[0])).astype(np.int32)
    return pa.Array.from_buffers(
        pa.binary(), len(offsets) - 1, [None, pa.py_buffer(places), pa.py_buffer(held)]
    )


def unpacked(array: pa.Array | pa.ChunkedArray) -> tuple[Ints, Ints]:
    """(values, offsets), both int64, of a binary or large_binary array without nulls: the inverse of `packed`."""
    chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    values, sizes = [np.empty(0, dtype="<i8")], [np.empty(0, dtype=np.int64)]
    for chunk in chunks:
        width = np.int64 if pa.types.is_large_binary(chunk.type) else np.int32
        _, offset_buffer, data = chunk.buffers()
        if not len(chunk):
            continue
        offsets = np.frombuffer(offset_buffer, dtype=width)[chunk.offset : chunk.offset + len(chunk) + 1]
        begin, end = int(offsets[0]), int(offsets[-1])
        if end > begin:
            values.append(np.frombuffer(data, dtype="<i8", count=(end - begin) // WIDTH, offset=begin))
        sizes.append(np.diff(offsets).astype(np.int64) // WIDTH)
    whole = values[1] if len(values) == 2 else np.concatenate(values)
    return whole, np.concatenate(([0], np.cumsum(np.concatenate(sizes)))).astype(np.int64)
