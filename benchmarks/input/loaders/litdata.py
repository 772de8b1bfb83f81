"""LitData's StreamingDataset with its loader for tokens, which takes elements of any dtype, shuffled."""

import shutil
from pathlib import Path
from typing import Any

import litdata  # type: ignore[import-not-found]
import torch

from benchmarks.input.loaders import (
    BATCH,
    Batches,
    Job,
    Numbers,
    chunk_rows,
    concatenated,
    numbered,
    parted,
    rows_of,
)

ROWS_PER_CHUNK = 8192


class _Blocks:
    """Row as one block of its number and its values, as the loader for tokens stores them."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __call__(self, part: tuple[int, int]) -> Any:
        for row in numbered(*rows_of(Path(self.folder), part[1]))[part[0] :]:
            yield torch.from_numpy(row)


def block_of(folder: Path) -> int:
    """Return the elements of a row and its number."""
    return int(numbered(*rows_of(folder, 1)).shape[1])


def prepare(folder: Path, rows: int) -> None:
    target = folder / "litdata"
    shutil.rmtree(target, ignore_errors=True)
    litdata.optimize(
        fn=_Blocks(folder),
        inputs=[(first, min(rows, first + 50_000)) for first in range(0, rows, 50_000)],
        output_dir=str(target),
        chunk_size=block_of(folder) * chunk_rows(folder, ROWS_PER_CHUNK),
        item_loader=litdata.TokensLoader(block_size=block_of(folder)),
        num_workers=1,
        keep_data_ordered=True,
    )


def batches(job: Job) -> Batches:
    data = litdata.StreamingDataset(
        str(job.folder / "litdata"),
        item_loader=litdata.TokensLoader(block_size=block_of(job.folder)),
        shuffle=job.options.get("shuffle", True),
        drop_last=False,
    )
    loader = litdata.StreamingDataLoader(data, batch_size=BATCH, num_workers=job.options.get("workers", 2))
    for _ in range(job.epochs):
        for block in loader:
            yield parted(block)


def numbers(identities: list[Any], folder: Path) -> Numbers:
    return concatenated(identities, folder)
