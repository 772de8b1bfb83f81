"""WebDataset: tar files with one member a row, its shuffle buffer, two worker processes."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset  # type: ignore[import-not-found]

from benchmarks.input.loaders import BATCH, SHUFFLED_ROWS, Batches, Job, Numbers, concatenated, rows_of

FILES = 8


def prepare(folder: Path, rows: int) -> None:
    """Write the number and the tokens as the bytes of int32, which takes the least parsing and decoding."""
    tokens, row_numbers = rows_of(folder, rows)
    target = folder / "webdataset"
    target.mkdir(exist_ok=True)
    whole = np.concatenate([row_numbers[:, None], tokens], axis=1)
    per_file = -(-len(tokens) // FILES)
    for number, first in enumerate(range(0, len(tokens), per_file)):
        with tarfile.open(target / f"{number:03d}.tar", "w") as tar:
            for row in whole[first : first + per_file]:
                member = tarfile.TarInfo(f"{row[0]:08d}.row")
                member.size = row.nbytes
                tar.addfile(member, io.BytesIO(row.tobytes()))


def as_array(sample: dict[str, Any]) -> Any:
    return np.frombuffer(sample["row"], dtype=np.int32)


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
        data = data.shuffle(SHUFFLED_ROWS)
    data = data.map(as_array).batched(BATCH, collation_fn=stacked)
    loader = webdataset.WebLoader(data, batch_size=None, num_workers=job.options.get("workers", 2))
    for _ in range(job.epochs):
        for block in loader:
            yield block[:, 1:], block[:, 0]


def numbers(identities: list[Any], folder: Path) -> Numbers:
    return concatenated(identities, folder)
