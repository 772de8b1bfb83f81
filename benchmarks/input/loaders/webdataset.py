"""WebDataset: tar files with one member a row, its shuffle buffer, two worker processes."""

import functools
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset  # type: ignore[import-not-found]

from benchmarks.input.loaders import (
    BATCH,
    Batches,
    Job,
    Numbers,
    concatenated,
    delivered,
    numbered,
    parted,
    rows_of,
    shuffled_rows,
    stored,
)

FILES = 8


def prepare(folder: Path, rows: int) -> None:
    """Write the number and the values as bytes, which takes the least parsing and decoding."""
    whole = numbered(*rows_of(folder, rows))
    target = folder / "webdataset"
    target.mkdir(exist_ok=True)
    per_file = -(-len(whole) // FILES)
    for number, first in enumerate(range(0, len(whole), per_file)):
        with tarfile.open(target / f"{number:03d}.tar", "w") as tar:
            for place, row in enumerate(whole[first : first + per_file], first):
                member = tarfile.TarInfo(f"{place:08d}.row")
                member.size = row.nbytes
                tar.addfile(member, io.BytesIO(row.tobytes()))


def as_array(sample: dict[str, Any], dtype: np.dtype[Any]) -> Any:
    return np.frombuffer(sample["row"], dtype=dtype)


def stacked(rows: list[Any]) -> torch.Tensor:
    return torch.from_numpy(np.stack(rows))


def batches(job: Job) -> Batches:
    files = sorted(str(path) for path in (job.folder / "webdataset").glob("*.tar"))
    shuffled = job.options.get("shuffle", True)
    data = webdataset.WebDataset(
        files,
        shardshuffle=len(files) if shuffled else False,
        nodesplitter=webdataset.split_by_node,
        workersplitter=webdataset.split_by_worker,
    )
    if shuffled:
        data = data.shuffle(shuffled_rows(job.folder))
    data = data.map(functools.partial(as_array, dtype=delivered(stored(job.folder).dtype))).batched(
        BATCH, collation_fn=stacked
    )
    loader = webdataset.WebLoader(data, batch_size=None, num_workers=job.options.get("workers", 2))
    for _ in range(job.epochs):
        for block in loader:
            yield parted(block)


def numbers(identities: list[Any], folder: Path) -> Numbers:
    return concatenated(identities, folder)
