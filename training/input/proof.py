"""Proof of which rows of a split were read, and how often."""

import numpy as np
import numpy.typing as npt

from common.errors import CheckError
from provenance.keys import add_sums, key_sums
from schemas.manifest import SplitContent
from training.parallel.communicator import Communicator


class Proof:
    """Count of rows and sums of their keys, showing that a split was read in full.

    Each row has to be read exactly as often as the manifest says: once, unless its class is oversampled.
    """

    def __init__(self, count: int = 0, sums: tuple[int, int] = (0, 0)) -> None:
        self.count, self.sums = count, sums

    def add(self, keys: npt.NDArray[np.uint64]) -> None:
        """Add rows by their keys, (rows, 2) uint64."""
        self.count += len(keys)
        self.sums = add_sums([self.sums, key_sums(keys)])

    def over_all_ranks(self, communicator: Communicator) -> "Proof":
        """Return the sums of all ranks; called by all of them."""
        count, first, second = communicator.sum_integers([self.count, *self.sums])
        return Proof(count, (first, second))

    def check(self, expected: SplitContent, what: str) -> None:
        """Raise CheckError if these are not exactly the rows in the manifest, as often as it says."""
        if self.count != expected.epoch_rows or self.sums != tuple(expected.epoch_key_sums):
            raise CheckError(
                f"{what} read {self.count:,} rows with the key sums {self.sums} where the manifest has "
                f"{expected.epoch_rows:,} with {tuple(expected.epoch_key_sums)}: "
                "rows were lost or repeated; please report it with the configuration"
            )
