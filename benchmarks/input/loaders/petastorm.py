"""Stock Petastorm, the version that the product is built on: two threads, its batched loader and shuffling queue."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.input.loaders import (
    BATCH,
    SHUFFLED_ROWS,
    Batches,
    Job,
    Numbers,
    concatenated,
    rows_of,
)
from training.input.petastorm_arrow import make_batch_reader

ROWS_PER_GROUP = 4096
FILES = 8


def prepare(folder: Path, rows: int) -> None:
    """Write list<int32>, because it has no way to turn binary columns of a batch into tensors; zstd."""
    tokens, row_numbers = rows_of(folder, rows)
    target = folder / "petastorm"
    target.mkdir(exist_ok=True)
    per_file = -(-len(tokens) // FILES)
    group = min(ROWS_PER_GROUP, max(1, per_file // 10))
    for number, first in enumerate(range(0, len(tokens), per_file)):
        part = tokens[first : first + per_file]
        offsets = pa.array(range(0, part.size + 1, part.shape[1]), pa.int32())
        lists = pa.ListArray.from_arrays(offsets, pa.array(part.reshape(-1)))
        table = pa.table({"tokens": lists, "number": row_numbers[first : first + per_file]})
        pq.write_table(table, target / f"{number}.parquet", compression="zstd", row_group_size=group)


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
        queue = SHUFFLED_ROWS if shuffled else 0
        for batch in BatchedDataLoader(reader, batch_size=BATCH, shuffling_queue_capacity=queue):
            yield batch["tokens"], batch["number"]


def numbers(identities: list[Any], folder: Path) -> Numbers:
    return concatenated(identities, folder)
