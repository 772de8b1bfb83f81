"""LanceDB's StreamingDataset, shuffled."""

from pathlib import Path
from typing import Any

import lancedb  # type: ignore[import-not-found]
import numpy as np
import pyarrow as pa
import torch
from lancedb.streaming import StreamingDataset  # type: ignore[import-not-found]

from benchmarks.input.loaders import BATCH, Batches, Job, Numbers, chunk_rows, concatenated, rows_of


def prepare(folder: Path, rows: int) -> None:
    values, row_numbers = rows_of(folder, rows)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    database = lancedb.connect(str(folder / "lancedb"))
    database.create_table("rows", pa.table({"values": lists, "number": row_numbers}), mode="overwrite")


def as_rows(batch: pa.RecordBatch) -> list[tuple[torch.Tensor, int]]:
    lists = batch.column("values")
    values = np.asarray(lists.flatten()).reshape(len(lists), -1)
    return list(zip(torch.from_numpy(values.copy()), batch.column("number").to_pylist(), strict=True))


def collate(rows: list[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, list[int]]:
    return torch.stack([values for values, _ in rows]), [number for _, number in rows]


def batches(job: Job) -> Batches:
    """Read without worker processes: forked ones crash in its Rust runtime, and its own two threads do the work."""
    table = lancedb.connect(str(job.folder / "lancedb")).open_table("rows")
    for epoch in range(job.epochs):
        data = StreamingDataset(
            table,
            num_splits=2,
            shuffle_clump_size=job.options.get("clump"),
            epoch=epoch,
            rank=job.rank,
            world_size=job.ranks,
            read_batch_size=chunk_rows(job.folder, job.options.get("read", 1024)),
            io_queue_depth=1,
            transform=as_rows,
            transform_parallelism=2,
        )
        yield from torch.utils.data.DataLoader(data, batch_size=BATCH, collate_fn=collate)


def numbers(identities: list[Any], folder: Path) -> Numbers:
    return concatenated(identities, folder)
