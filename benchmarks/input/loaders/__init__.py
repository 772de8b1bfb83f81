"""Loaders, one module each, all of one form; each runs in a process, and most in an environment, of its own.

`prepare(folder, rows)` writes the first `rows` rows of a folder (see `generate`) in the loader's own format, once.
`batches(job)` yields (values, identities) a batch: values is a torch tensor of (rows, …), token ids as int32 or
whatever integer type the loader delivers by itself, pixels as uint8, numbers as float32; `numbers(identities, folder)`
turns those of a whole pass into row numbers.
These modules import nothing of the product but `ringlake`, because the product is not in the others' environments.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

BATCH = 256
SHUFFLED_ROWS = 10_000
SHUFFLED_BYTES = 256 << 20
"""Size of a shuffle buffer or queue, where a loader has one; the lower limit applies."""
CHUNK_BYTES = 4 << 20
"""Bytes of a chunk, row group or read of a loader's own format at most, where rows are wide."""
Values = npt.NDArray[Any]
Numbers = npt.NDArray[np.int64]
Batches = Generator[tuple[Any, Any], None, None]


@dataclass(frozen=True)
class Job:
    """Task of a loader: read a folder, `epochs` times, as rank `rank` of `ranks`."""

    folder: Path
    epochs: int = 1
    rank: int = 0
    ranks: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)


class Loader(Protocol):
    def prepare(self, folder: Path, rows: int) -> None: ...

    def batches(self, job: Job) -> Batches: ...

    def numbers(self, identities: list[Any], folder: Path) -> Numbers: ...


def concatenated(identities: list[Any], folder: Path) -> Numbers:
    """Concatenate row numbers that came as one array or tensor a batch."""
    return np.concatenate(
        [np.zeros(0, dtype=np.int64), *(np.asarray(part).reshape(-1) for part in identities)]
    )


def stored(folder: Path) -> Values:
    """Return the rows of a folder, memory-mapped: (N, *shape), token ids as uint16."""
    found: Values = np.load(folder / "rows.npy", mmap_mode="r")
    return found


def delivered(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return int32 for token ids, which models take so; other dtypes as they are."""
    return np.dtype(np.int32) if dtype == np.uint16 else dtype


def rows_of(folder: Path, rows: int) -> tuple[Values, npt.NDArray[np.int32]]:
    """Return the first rows of a folder for a loader's own copy: values (rows, width), and numbers (rows,) int32."""
    found = stored(folder)[:rows]
    values = found.reshape(len(found), -1).astype(delivered(found.dtype))
    return values, np.arange(len(values), dtype=np.int32)


def numbered(values: Values, row_numbers: npt.NDArray[np.int32]) -> Values:
    """Return rows that begin with the four bytes of their numbers, for formats of one array a row."""
    heads = row_numbers[:, None].view(values.dtype)
    return np.concatenate([heads, values], axis=1)


def parted(block: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return values and numbers of rows that `numbered` made."""
    head = 4 // block.element_size()
    return block[:, head:], block[:, :head].contiguous().view(torch.int32).reshape(-1)


def row_bytes(folder: Path) -> int:
    """Return the bytes of a row as a loader delivers it."""
    first = stored(folder)[:1]
    return int(first.size * delivered(first.dtype).itemsize)


def shuffled_rows(folder: Path) -> int:
    """Return the rows of a shuffle buffer."""
    return min(SHUFFLED_ROWS, SHUFFLED_BYTES // row_bytes(folder))


def chunk_rows(folder: Path, most: int) -> int:
    """Return `most` rows, or as many as CHUNK_BYTES hold where these are fewer."""
    return max(1, min(most, CHUNK_BYTES // row_bytes(folder)))
