"""Arrow batches cut into parts of bounded size."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def parts_of(batch: pa.RecordBatch, columns: Sequence[str], most_bytes: int) -> Iterator[pa.RecordBatch]:
    """Yield slices of a batch with about `most_bytes` of text in these columns; at least a row each."""
    sizes = np.zeros(len(batch), dtype=np.int64)
    for column in columns:
        sizes += pc.fill_null(pc.binary_length(batch[column]), 0).to_numpy()
    ends = np.cumsum(sizes)
    begin = 0
    while begin < len(ends):
        before = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(ends.searchsorted(before + most_bytes, side="right")))
        yield batch.slice(begin, end - begin)
        begin = end
