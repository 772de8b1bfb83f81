"""Memory copy, the yardstick: rows that lie in memory are copied into batches, in order and as they are stored."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.input.loaders import BATCH, Batches, Job, Numbers, Values, concatenated


def prepare(folder: Path, rows: int) -> None:
    """Do nothing: `rows.npy` exists already."""


@functools.cache
def in_memory(folder: Path) -> Values:
    """Return all rows; the pass that warms up reads them."""
    found: Values = np.load(folder / "rows.npy")
    return found


def batches(job: Job) -> Batches:
    """Copy into one batch again and again, or with `fresh` into a new one each time, as loaders without buffers do."""
    rows = in_memory(job.folder)
    again = np.empty_like(rows[:BATCH])
    for _ in range(job.epochs):
        for first in range(job.rank * BATCH, len(rows), job.ranks * BATCH):
            part = rows[first : first + BATCH]
            batch = np.empty_like(part) if job.options.get("fresh") else again[: len(part)]
            np.copyto(batch, part)
            yield torch.from_numpy(batch), np.arange(first, first + len(part))


def numbers(identities: list[Any], folder: Path) -> Numbers:
    return concatenated(identities, folder)
