"""Hugging Face datasets, streaming: Arrow files, its shuffle buffer, batches formatted as tensors."""

from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-not-found]
import numpy as np
import pyarrow as pa
import torch
from datasets.distributed import split_dataset_by_node  # type: ignore[import-not-found]

from benchmarks.input.loaders import (
    BATCH,
    Batches,
    Job,
    Numbers,
    chunk_rows,
    concatenated,
    rows_of,
    shuffled_rows,
)

FILES = 8


def prepare(folder: Path, rows: int) -> None:
    """Write Arrow IPC files, which it streams faster than Parquet; a fixed-size list, which it converts faster."""
    values, row_numbers = rows_of(folder, rows)
    target = folder / "huggingface"
    target.mkdir(exist_ok=True)
    per_file = -(-len(values) // FILES)
    for number, first in enumerate(range(0, len(values), per_file)):
        part = values[first : first + per_file]
        lists = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), part.shape[1])
        table = pa.table({"values": lists, "number": row_numbers[first : first + per_file]})
        with (
            pa.OSFile(str(target / f"{number}.arrow"), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as writer,
        ):
            writer.write_table(table, max_chunksize=chunk_rows(folder, 1000))


def batches(job: Job) -> Batches:
    files = sorted(str(path) for path in (job.folder / "huggingface").glob("*.arrow"))
    data = datasets.load_dataset("arrow", data_files=files, streaming=True, split="train")
    if job.ranks > 1:
        data = split_dataset_by_node(data, rank=job.rank, world_size=job.ranks)
    if job.options.get("shuffle", True):
        data = data.shuffle(seed=0, buffer_size=shuffled_rows(job.folder))
    style = job.options.get("format", "arrow")
    if style == "arrow":
        data = data.with_format("arrow")
        for epoch in range(job.epochs):
            data.set_epoch(epoch)
            for table in data.iter(batch_size=BATCH):
                column = table.column("values").combine_chunks()
                values = np.asarray(column.flatten()).reshape(len(column), -1)
                yield torch.from_numpy(values.copy()), table.column("number").to_numpy()
        return
    data = data.with_format(style)
    for epoch in range(job.epochs):
        data.set_epoch(epoch)
        for batch in data.iter(batch_size=BATCH):
            yield torch.as_tensor(batch["values"]), batch["number"]


def numbers(identities: list[Any], folder: Path) -> Numbers:
    return concatenated(identities, folder)
