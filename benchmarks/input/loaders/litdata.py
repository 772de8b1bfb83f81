"""LitData's StreamingDataset with its loader for tokens, shuffled."""

import shutil
from pathlib import Path
from typing import Any

import litdata  # type: ignore[import-not-found]
import numpy as np
import torch

from benchmarks.input.loaders import BATCH, Batches, Job, Numbers, concatenated, rows_of

LENGTH = 128


class _Blocks:
    """Row as one block of its number and its tokens, as the loader for tokens stores them."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __call__(self, part: tuple[int, int]) -> Any:
        tokens, row_numbers = rows_of(Path(self.folder), part[1])
        whole = np.concatenate([row_numbers[:, None], tokens], axis=1)[part[0] :]
        for row in whole:
            yield torch.from_numpy(row)


def prepare(folder: Path, rows: int) -> None:
    target = folder / "litdata"
    shutil.rmtree(target, ignore_errors=True)
    litdata.optimize(
        fn=_Blocks(folder),
        inputs=[(first, min(rows, first + 50_000)) for first in range(0, rows, 50_000)],
        output_dir=str(target),
        chunk_size=(LENGTH + 1) * 8192,
        item_loader=litdata.TokensLoader(block_size=LENGTH + 1),
        num_workers=1,
        keep_data_ordered=True,
    )


def batches(job: Job) -> Batches:
    data = litdata.StreamingDataset(
        str(job.folder / "litdata"),
        item_loader=litdata.TokensLoader(block_size=LENGTH + 1),
        shuffle=job.options.get("shuffle", True),
        drop_last=False,
    )
    loader = litdata.StreamingDataLoader(data, batch_size=BATCH, num_workers=job.options.get("workers", 2))
    for _ in range(job.epochs):
        for block in loader:
            yield block[:, 1:], block[:, 0]


def numbers(identities: list[Any], folder: Path) -> Numbers:
    return concatenated(identities, folder)
