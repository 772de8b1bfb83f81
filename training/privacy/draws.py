"""Poisson sampling: in each step every row of the training split takes part with the same probability, alone.

The bound of the accountant holds against those who do not know who took part, so draws come from the run's key, and
what is recorded of them lies beside it. What is public goes on as if each step had `train.batch` rows. Rows are held in
memory, since any may be drawn.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from common import json_lines
from common.errors import CheckError, UsageError
from provenance.keys import key_sums
from schemas.config import Configuration
from schemas.manifest import Manifest
from training.input.batch_loader import BatchLoader, LocalBatch, columns_of
from training.input.proof import Proof
from training.parallel.communicator import Communicator
from training.parallel.world import World
from training.privacy import key_file

NAME = "draws.jsonl"
"""File beside the key: for each step the rows drawn and the sums of their keys."""


def check_memory(config: Configuration, manifest: Manifest) -> None:
    """Raise UsageError where the rows of the training split do not fit into `train.read_memory`."""
    columns = columns_of(manifest)
    row = sum(np.dtype(c.dtype).itemsize * int(np.prod(c.shape, dtype=np.int64)) for c in columns)
    size = row * manifest.splits["train"].epoch_rows
    if size > config.train.read_memory:
        raise UsageError(
            f'method.sampling = "poisson" holds the rows of the training split in memory, {size / 2**20:,.0f} MiB, and '
            f'train.read_memory allows {config.train.read_memory / 2**20:,.0f}: raise it, or set sampling = "once"'
        )


class DrawnBatches:
    """Batches of a rank from a position on, as `training.methods.Batches`.

    An epoch is as many steps as batches of the split's rows.
    """

    def __init__(
        self,
        config: Configuration,
        manifest: Manifest,
        run: Path,
        communicator: Communicator,
        position: int,
        seed: Callable[[], bytes],
    ) -> None:
        """Read all rows; `position` counts rows as the training does, `seed` the secret that decides."""
        self.config, self.manifest, self.communicator, self.seed = config, manifest, communicator, seed
        self.rows, self.batch = manifest.splits["train"].epoch_rows, config.train.batch
        self.steps = -(-self.rows // self.batch)
        """Steps of an epoch."""
        epoch, start = divmod(position, self.rows)
        self.first = epoch * self.steps + start // self.batch
        self.share = min(1.0, self.batch / self.rows)
        self.seconds_waited = 0.0
        self.described = f"each of {self.rows:,} rows drawn with the probability {self.share:.4g} a step"
        self.taken, self.drawn = Proof(), Proof()
        self.whole = self._read()
        self.record = run / key_file.FOLDER / NAME

    def _read(self) -> LocalBatch:
        """Return all rows that an epoch takes, in the order of the first."""
        config, manifest = self.config, self.manifest
        with BatchLoader(manifest, "train", config.train, World(0, 1), options=config.storage) as loader:
            return LocalBatch.joined(list(loader))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: all has been read."""

    def __iter__(self) -> Iterator[LocalBatch]:
        world, seed = self.communicator.world, self.seed()
        if self.communicator.writes:
            self._begin_record()
        for step in range(self.first, self.steps * self.config.train.epochs):
            places = drawn(seed, step, self.rows, self.share)
            self.drawn.add(self.whole.keys[places])
            if self.communicator.writes:
                entry = {"step": step, "rows": len(places), "key_sums": key_sums(self.whole.keys[places])}
                json_lines.append(str(self.record), json.dumps(entry).encode(), durable=False)
            batch = self._batch(step, places[world.rank :: world.size])
            self.taken.add(batch.keys)
            yield batch

    def _batch(self, step: int, places: npt.NDArray[np.int64]) -> LocalBatch:
        epoch, number = divmod(step, self.steps)
        last = min((number + 1) * self.batch, self.rows)
        return replace(
            self.whole.rows_at(places),
            # How many there were is as secret as who they were.
            global_rows=last - number * self.batch,
            epoch=epoch,
            position=epoch * self.rows + last,
        )

    def _begin_record(self) -> None:
        """Drop the draws of steps that are made again, as they are the same."""
        if self.record.exists():
            json_lines.keep(str(self.record), lambda entry: bool(entry["step"] < self.first))
            self.record.chmod(0o600)  # it is a new file, in a folder that is the owner's alone
        else:
            os.close(os.open(self.record, os.O_WRONLY | os.O_CREAT, 0o600))

    def check(self, what: str) -> None:
        """Raise CheckError unless the rows that all ranks took since the last call are those drawn, by their keys."""
        whole, drawn = self.taken.over_all_ranks(self.communicator), self.drawn
        self.taken, self.drawn = Proof(), Proof()
        if (whole.count, whole.sums) != (drawn.count, drawn.sums):
            raise CheckError(
                f"{what} did not take the rows that were drawn; please report it with the configuration"
            )


def drawn(seed: bytes, step: int, rows: int, share: float) -> npt.NDArray[np.int64]:
    """Return the places, ascending, of those of so many rows that take part in a step, each with a probability."""
    stream = hashlib.shake_256(b"ringlake draws 1" + seed + step.to_bytes(8, "little"))
    bits = np.frombuffer(stream.digest(8 * rows), dtype="<u8")
    return np.flatnonzero((bits >> np.uint64(11)) * 2.0**-53 < share)
