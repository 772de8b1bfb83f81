"""Lists of hashes survive being packed into binary values, however the array is cut up."""

import numpy as np
import pyarrow as pa
import pytest

from etl.duplicates.hash_lists import packed, unpacked

VALUES = np.array([5, -1, 2**62, 0, 7, 7, -(2**63)], dtype=np.int64)
OFFSETS = np.array([0, 2, 2, 6, 7])


def lists_of(array: pa.Array | pa.ChunkedArray, dtype: str = "<i8") -> list[list[int]]:
    values, offsets = unpacked(array, dtype)
    assert offsets.dtype == np.int64
    return [values[offsets[i] : offsets[i + 1]].tolist() for i in range(len(offsets) - 1)]


def test_packed_lists_are_little_endian_bytes_and_come_back() -> None:
    array = packed(VALUES, OFFSETS)
    assert array.type == pa.binary()
    assert array[0].as_py() == (5).to_bytes(8, "little") + b"\xff" * 8
    assert array.null_count == 0
    assert lists_of(array) == [[5, -1], [], [2**62, 0, 7, 7], [-(2**63)]]


def test_only_the_lists_between_the_offsets_are_packed() -> None:
    assert lists_of(packed(VALUES, OFFSETS[1:4])) == [[], [2**62, 0, 7, 7]]
    assert lists_of(packed(VALUES, OFFSETS[:1])) == []


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_slices_and_chunks_come_back(kind: pa.DataType) -> None:
    array = packed(VALUES, OFFSETS).cast(kind)
    whole = lists_of(array)
    assert lists_of(array.slice(1, 2)) == whole[1:3]
    chunked = pa.chunked_array([array.slice(0, 1), array.slice(1, 0), array.slice(1)])
    assert lists_of(chunked) == whole
    assert lists_of(pa.chunked_array([], kind)) == []


def test_values_of_any_fixed_size_can_be_packed() -> None:
    owners = np.array([3, 1, 2], dtype="<i4")
    assert lists_of(packed(owners, np.array([0, 1, 3])), "<i4") == [[3], [1, 2]]
    hashes = np.frombuffer(bytes(range(32)), dtype="V16")
    array = packed(hashes, np.arange(3))
    assert array.to_pylist() == [bytes(range(16)), bytes(range(16, 32))]
    assert unpacked(array, "V16")[0].tobytes() == bytes(range(32))


def test_more_than_offsets_of_32_bits_reach_is_refused() -> None:
    nothing = np.broadcast_to(np.zeros(1, dtype=np.int64), (2**28,))
    with pytest.raises(OverflowError, match="2 GiB"):
        packed(nothing, np.array([0, 2**28]))
