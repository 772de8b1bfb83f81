"""Loaders, one module each, all of one form; each runs in a process, and most in an environment, of its own.

`prepare(folder, rows)` writes the first `rows` rows of a folder (see `generate`) in the loader's own format, once.
`batches(job)` yields (tokens, identities) a batch: tokens is a torch tensor of (rows, 128), int32 or whatever integer
type the loader delivers by itself; `numbers(identities, folder)` turns those of a whole pass into row numbers.
These modules import nothing of the product but `ringlake`, because the product is not in the others' environments.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

BATCH = 256
SHUFFLED_ROWS = 10_000
"""Rows of a shuffle buffer or queue, where a loader has one."""
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


def rows_of(folder: Path, rows: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the first rows of a folder for a loader's own copy: tokens (rows, 128) and numbers (rows,), int32."""
    tokens = np.load(folder / "rows.npy", mmap_mode="r")[:rows].astype(np.int32)
    return tokens, np.arange(len(tokens), dtype=np.int32)
