"""The order in which silos read their rows, as integer arithmetic.

Each silo has an order of its own (`training.input.order`, as of one process), from which it takes local batches of
`train.batch` rows. Step k of an epoch is the k-th local batch of every silo that still has one, silo after silo. Silo s
belongs to rank s modulo R, so no row of it is read by two ranks, and what a step holds does not depend on R. As a step
takes a known number of rows, a position between two steps is one integer.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import UsageError
from common.wording import counted
from schemas.manifest import Manifest, Shard
from training.input.order import GlobalBatch
from training.parallel.world import World


@dataclass(frozen=True)
class Silo:
    """Silo, numbered without a gap; its number says nothing of whose rows it holds."""

    number: int
    shards: tuple[Shard, ...]
    root: str
    """Seed of the silo's order, from the manifest root and its number."""

    @property
    def rows(self) -> int:
        """Rows of an epoch, repeats included."""
        return sum(shard.epoch_rows for shard in self.shards)

    def part_of(self, manifest: Manifest) -> Manifest:
        """Return a manifest whose training split has the shards of this silo alone."""
        content = manifest.content
        split = content.splits["train"].model_copy(update={"shards": list(self.shards)})
        content = content.model_copy(update={"splits": {**content.splits, "train": split}})
        return manifest.model_copy(update={"content": content, "manifest_root": self.root})


def silos_of(manifest: Manifest, by: str) -> tuple[Silo, ...]:
    """Return the silos of the training split, by `shard` or by `group`.

    Raises UsageError if shards are not published by group.
    """
    shards = [shard for shard in manifest.splits["train"].shards if shard.epoch_rows]
    if by == "shard":
        return tuple(Silo(number, (shard,), _root(manifest, number)) for number, shard in enumerate(shards))
    if any(shard.silo is None for shard in shards):
        raise UsageError(
            f'method.silos = "group": the shards of {manifest.content.dataset} hold rows of several groups; set '
            'publish.by_group = true and publish it again, or take method.silos = "shard"'
        )
    numbers = sorted({shard.silo for shard in shards if shard.silo is not None})
    return tuple(
        Silo(number, tuple(shard for shard in shards if shard.silo == silo), _root(manifest, number))
        for number, silo in enumerate(numbers)
    )


def _root(manifest: Manifest, number: int) -> str:
    # One silo alone reads as plain training does.
    if number == 0:
        return manifest.manifest_root
    return hashlib.sha256(f"ringlake silo\0{manifest.manifest_root}\0{number}".encode()).hexdigest()


def owner(silo: int, ranks: int) -> int:
    """Return the rank that a silo belongs to."""
    return silo % ranks


@dataclass(frozen=True)
class Step(GlobalBatch):
    """One step of an epoch."""

    step: int
    taken: tuple[int, ...]
    """Rows that each silo takes."""

    def number(self, size: int) -> int:
        return self.step


@dataclass(frozen=True)
class SiloOrder:
    """Order of all silos in all epochs, with the methods of `SplitOrder` that training needs."""

    silos: tuple[Silo, ...]

    @cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Rows of each silo in an epoch: shape (silos,), dtype int64."""
        return np.array([silo.rows for silo in self.silos], dtype=np.int64)

    @cached_property
    def rows(self) -> int:
        """Rows of an epoch."""
        return int(self.sizes.sum())

    def steps(self, batch: int) -> int:
        """Return the steps of an epoch: those of the largest silo."""
        return -(-max((silo.rows for silo in self.silos), default=0) // batch)

    def after(self, step: int, batch: int) -> int:
        """Return the position after so many steps of an epoch."""
        return int(np.minimum(self.sizes, step * batch).sum())

    def step_at(self, position: int, batch: int) -> int:
        """Return the step of an epoch that begins at a position. Raises UsageError if none does."""
        low, high = 0, self.steps(batch)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.after(middle, batch) < position else (low, middle)
        if self.after(low, batch) != position:
            begins = self.after(max(0, low - 1), batch)
            raise UsageError(
                f"no step of the silos begins at row {position:,} of an epoch: steps begin at {begins:,} and "
                f"{self.after(low, batch):,}"
            )
        return low

    def batches(self, batch: int, position: int = 0) -> Iterator[GlobalBatch]:
        """Yield the steps from `position` to the end of the epoch. Raises UsageError as `step_at` does."""
        for step in range(self.step_at(position, batch), self.steps(batch)):
            yield Step(
                self.after(step, batch),
                self.after(step + 1, batch),
                step,
                tuple(self.taken(step, batch).tolist()),
            )

    def taken(self, step: int, batch: int) -> npt.NDArray[np.int64]:
        """Return the rows that each silo takes in a step of an epoch: shape (silos,), dtype int64."""
        taken: npt.NDArray[np.int64] = np.minimum(self.sizes, (step + 1) * batch)
        return taken - np.minimum(self.sizes, step * batch)

    def owners(self, batch: GlobalBatch, ranks: int) -> npt.NDArray[np.int64]:
        """Return the rank, out of `ranks`, that owns each row of a step; shape (rows,), dtype int64."""
        assert isinstance(batch, Step)
        return np.repeat([owner(silo.number, ranks) for silo in self.silos], batch.taken)

    def owned(self, world: World) -> tuple[Silo, ...]:
        """Return the silos of a rank."""
        return tuple(silo for silo in self.silos if owner(silo.number, world.size) == world.rank)

    def idle_ranks(self, world: World) -> int:
        """Count the ranks without a silo."""
        return max(0, world.size - len(self.silos))

    def check_world(self, world: World) -> None:
        """Raise UsageError if a rank would have no silo."""
        if self.idle_ranks(world):
            raise UsageError(
                f"{world.size} ranks cannot share {counted(len(self.silos), 'silo')}: a silo belongs to one rank; "
                f"start at most {len(self.silos)} ranks, or publish more shards (publish.shards)"
            )

    def described(self) -> list[dict[str, Any]]:
        """Return number and rows of each silo, for reports."""
        return [{"silo": silo.number, "rows": silo.rows} for silo in self.silos]
