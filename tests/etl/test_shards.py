"""Writing a shard holds one row group and one batch at a time, however large the shard is."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.storage import Storage
from etl.publication import shards
from etl.publication.shards import ShardWriter, row_bytes, shard_schema
from tests.etl.example_tables import configuration

LENGTH, BATCH_ROWS, GROUP = 2_000, 500, 1_000


def batches(count: int) -> Iterator[pa.RecordBatch]:
    """Yield rows of one shard in their order, as Spark hands them over: 2 MB per batch."""
    for number in range(count):
        first = number * BATCH_ROWS
        tokens = np.full(BATCH_ROWS * LENGTH, number % 7 + 1, "<u2").tobytes()
        offsets = (np.arange(BATCH_ROWS + 1) * LENGTH * 2).astype(np.int32)
        yield pa.RecordBatch.from_arrays(
            [
                pa.array([f"id-{first + row:09d}" for row in range(BATCH_ROWS)]),
                pa.array(np.arange(first, first + BATCH_ROWS)),
                pa.array(np.full(BATCH_ROWS, number % 3, np.int32)),
                pa.Array.from_buffers(
                    pa.binary(), BATCH_ROWS, [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(tokens)]
                ),
                pa.array(np.zeros(BATCH_ROWS, np.int32)),
            ],
            names=["record_id", "order_key", "label_index", "tokens", "shard"],
        )


@pytest.mark.parametrize("count", [10, 80])
def test_a_shard_of_any_size_is_written_in_the_same_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    config = configuration(
        tmp_path, feature=[{"name": "tokens", "column": "text", "length": LENGTH, "vocabulary": 300}]
    )
    before, peaks, pending = pa.total_allocated_bytes(), [], []
    write_group = ShardWriter._write_group

    def noted(self: ShardWriter, rows: int) -> None:
        pending.append(self.pending_rows)
        write_group(self, rows)
        peaks.append(pa.total_allocated_bytes() - before)

    monkeypatch.setattr(ShardWriter, "_write_group", noted)
    write = shards._write_partition(
        [("train", 0)], shard_schema(config), GROUP, str(tmp_path), Storage(), None
    )
    [result] = write(batches(count))
    [row] = result.to_pylist()
    assert row["row_groups"] == [GROUP] * (count * BATCH_ROWS // GROUP)
    file = pq.ParquetFile(tmp_path / row["path"])
    assert file.metadata.num_row_groups == len(row["row_groups"])
    assert file.read_row_group(file.metadata.num_row_groups - 1)["record_id"][-1].as_py() == (
        f"id-{count * BATCH_ROWS - 1:09d}"
    )
    assert max(pending) < GROUP + BATCH_ROWS
    # A row group of 4 MB, assembled once and written once; a shard is 20 or 160 MB decoded.
    assert max(peaks) < 4 * GROUP * row_bytes(config)
