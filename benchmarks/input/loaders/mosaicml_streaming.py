"""MosaicML Streaming, shuffled (py1e, its default), two worker processes."""

import shutil
from pathlib import Path
from typing import Any

import streaming  # type: ignore[import-not-found]

from benchmarks.input.loaders import BATCH, Batches, Job, Numbers, concatenated, rows_of


def prepare(folder: Path, rows: int) -> None:
    """Write MDS shards without compression, as fixed-shape arrays."""
    target = folder / "mosaicml_streaming"
    shutil.rmtree(target, ignore_errors=True)
    values, row_numbers = rows_of(folder, rows)
    columns = {"values": f"ndarray:{values.dtype.name}:{values.shape[1]}", "number": "int32"}
    with streaming.MDSWriter(out=str(target), columns=columns) as writer:
        for row, number in zip(values, row_numbers, strict=True):
            writer.write({"values": row, "number": number})


def batches(job: Job) -> Batches:
    if job.ranks == 1:  # left behind by an interrupted run
        streaming.base.util.clean_stale_shared_memory()
    data = streaming.StreamingDataset(
        local=str(job.folder / "mosaicml_streaming"),
        shuffle=job.options.get("shuffle", True),
        batch_size=BATCH,
    )
    loader = streaming.StreamingDataLoader(
        data, batch_size=BATCH, num_workers=job.options.get("workers", 2), drop_last=False
    )
    for _ in range(job.epochs):
        for batch in loader:
            yield batch["values"], batch["number"]


def numbers(identities: list[Any], folder: Path) -> Numbers:
    return concatenated(identities, folder)
