"""Repeats of rows in an epoch by label index, from the manifest."""

import numpy as np
import numpy.typing as npt

from common.storage import Storage
from schemas.manifest import Manifest, SplitContent


def repeats_of(
    manifest: Manifest, split: str, options: Storage | None = None
) -> npt.NDArray[np.int64] | None:
    """Return the repeats of each row in an epoch by label index: shape (classes,), dtype int64; None: each row once.
    A class that `train.where` leaves out has 0.
    """
    repeats = manifest.splits[split].balance.repeats
    if not repeats:
        return None
    return np.array([repeats[name] for name in manifest.classes(options)], dtype=np.int64)


def rows_of(labels: npt.NDArray[np.int32], repeats: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the indices of the rows that an epoch reads from a row group, repeats included, in ascending order.

    `labels` are those of the row group, (rows,); `repeats` comes from `repeats_of`. Shape (rows read,), dtype int64.
    """
    return np.repeat(np.arange(len(labels)), repeats[labels])


def described(split: SplitContent) -> str:
    """Describe the repeats of a split's rows in an epoch, for people."""
    if split.balance.policy == "where":
        return (
            f"every one of the {split.epoch_rows:,} rows that train.where takes, of {split.rows:,}, "
            "read exactly once"
        )
    if not split.balance.repeats:
        return f"every one of {split.rows:,} rows read exactly once"
    return f"every one of {split.rows:,} rows read exactly as often as the manifest says, {split.epoch_rows:,} in all"
