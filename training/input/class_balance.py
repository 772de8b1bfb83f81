"""Repeats of rows within an epoch, as the manifest gives them by label index."""

import numpy as np
import numpy.typing as npt

from common.storage import Storage
from schemas.manifest import Manifest, SplitContent


def times_taken(
    manifest: Manifest, split: str, options: Storage | None = None
) -> npt.NDArray[np.int64] | None:
    """Return how often an epoch takes each row, by label index: shape (classes,), dtype int64; None: every row once."""
    taken = manifest.splits[split].balance.taken
    if not taken:
        return None
    return np.array([taken[name] for name in manifest.classes(options)], dtype=np.int64)


def rows_of(labels: npt.NDArray[np.int32], taken: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the row within its row group for each row that an epoch takes from it, in ascending order.

    `labels`, (rows,), are those of the row group; `taken` comes from `times_taken`. Shape (rows taken,), dtype int64.
    """
    return np.repeat(np.arange(len(labels)), taken[labels])


def described(split: SplitContent) -> str:
    """Describe for people how often the rows of a split are taken in an epoch."""
    if not split.balance.taken:
        return f"every one of {split.rows:,} rows read exactly once"
    return f"every one of {split.rows:,} rows read exactly as often as the manifest says, {split.rows_taken:,} in all"
