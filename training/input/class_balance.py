"""What the manifest says of class balance, by label index: how often rows are taken, and what their losses weigh."""

import numpy as np
import numpy.typing as npt
import torch

from common.storage import Storage
from schemas.manifest import Manifest, SplitContent


def times_taken(
    manifest: Manifest, split: str, options: Storage | None = None
) -> npt.NDArray[np.int64] | None:
    """How often an epoch takes each row, by label index: shape (classes,), dtype int64; None: every row once."""
    taken = manifest.splits[split].balance.taken
    if not taken:
        return None
    return np.array([taken[name] for name in manifest.classes(options)], dtype=np.int64)


def rows_of(labels: npt.NDArray[np.int32], taken: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Which row of a row group each of the rows is that an epoch takes from it, in ascending order.

    `labels` are those of the row group, (rows,); `taken` is that of `times_taken`. Shape (rows taken,), dtype int64.
    """
    return np.repeat(np.arange(len(labels)), taken[labels])


def loss_weights(
    manifest: Manifest, device: torch.device, options: Storage | None = None
) -> torch.Tensor | None:
    """What the loss of a row of the training split counts, by label index: (classes,) float32; None: all alike."""
    weights = manifest.splits["train"].balance.weights
    if not weights:
        return None
    by_index = [weights[name] for name in manifest.classes(options)]
    return torch.tensor(by_index, dtype=torch.float32, device=device)


def described(split: SplitContent) -> str:
    """How often the rows of a split are taken in an epoch, for people."""
    if not split.balance.taken:
        return f"every one of {split.rows:,} rows read exactly once"
    return f"every one of {split.rows:,} rows read exactly as often as the manifest says, {split.rows_taken:,} in all"
