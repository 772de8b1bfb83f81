"""Stock Petastorm, the version that the product is built on: two threads, its batched loader and shuffling queue."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.input.loaders import (
    BATCH,
    Batches,
    Job,
    Numbers,
    Values,
    chunk_rows,
    concatenated,
    rows_of,
    shuffled_rows,
)
from training.input.petastorm_arrow import make_batch_reader

ROWS_PER_GROUP = 4096
FILES = 8


def prepare(folder: Path, rows: int) -> None:
    """Write lists, because binary columns of a batch become no tensors, or columns of numbers; zstd."""
    values, row_numbers = rows_of(folder, rows)
    target = folder / "petastorm"
    target.mkdir(exist_ok=True)
    per_file = -(-len(values) // FILES)
    group = min(chunk_rows(folder, ROWS_PER_GROUP), max(1, per_file // 10))
    for number, first in enumerate(range(0, len(values), per_file)):
        part = values[first : first + per_file]
        table = pa.table({**columns_of(part), "number": row_numbers[first : first + per_file]})
        pq.write_table(table, target / f"{number}.parquet", compression="zstd", row_group_size=group)


def columns_of(values: Values) -> dict[str, pa.Array]:
    if values.dtype == np.float32:
        return {f"c{number:02d}": pa.array(column) for number, column in enumerate(values.T.copy())}
    offsets = pa.array(range(0, values.size + 1, values.shape[1]), pa.int32())
    return {"values": pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)))}


def batches(job: Job) -> Batches:
    # It needs the patches of training.input.petastorm_arrow.
    from petastorm.pytorch import BatchedDataLoader

    files = sorted(path.absolute().as_uri() for path in (job.folder / "petastorm").glob("*.parquet"))
    shuffled = job.options.get("shuffle", True)
    sharded = {"cur_shard": job.rank, "shard_count": job.ranks} if job.ranks > 1 else {}
    with make_batch_reader(
        files,
        reader_pool_type="thread",
        workers_count=2,
        num_epochs=job.epochs,
        shuffle_row_groups=shuffled,
        **sharded,
    ) as reader:
        queue = shuffled_rows(job.folder) if shuffled else 0
        for batch in BatchedDataLoader(reader, batch_size=BATCH, shuffling_queue_capacity=queue):
            row_numbers = batch.pop("number")
            columns = [batch[name] for name in sorted(batch)]
            yield columns[0] if len(columns) == 1 else torch.stack(columns, dim=1), row_numbers


def numbers(identities: list[Any], folder: Path) -> Numbers:
    return concatenated(identities, folder)
