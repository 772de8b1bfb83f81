"""Memory-mapped array, the limit: no format, no decompression, every row in memory; a global shuffle."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.input.loaders import BATCH, Batches, Job, Numbers, concatenated, delivered, stored


def prepare(folder: Path, rows: int) -> None:
    """Do nothing: `rows.npy` exists already."""


def batches(job: Job) -> Batches:
    rows = stored(job.folder)
    dtype = delivered(rows.dtype)
    for epoch in range(job.epochs):
        if job.options.get("shuffle", True):
            order = np.random.default_rng(epoch).permutation(len(rows))[job.rank :: job.ranks]
        else:
            order = np.arange(job.rank, len(rows), job.ranks)
        for first in range(0, len(order), BATCH):
            chosen = order[first : first + BATCH]
            yield torch.from_numpy(rows[chosen].astype(dtype, copy=False)), chosen


def numbers(identities: list[Any], folder: Path) -> Numbers:
    return concatenated(identities, folder)
