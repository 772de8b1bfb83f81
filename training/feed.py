"""From row groups to batches: every rank's share of each global batch, as tensors, from any position on.

The order comes from `training.order`, the row groups from `training.data`; `training.windows` puts rows in their
places, in a thread, some blocks ahead of the batches that are cut from them here.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from schemas.manifest import Column, Manifest
from schemas.settings import Storage, Train
from training.columns import SplitFiles
from training.data import PlannedReader
from training.memory import memory_need
from training.order import EpochOrder, SplitOrder, Window, World, reading_order, row_groups_of
from training.prefetch import Prefetcher
from training.windows import Block, WindowPool, joined

BLOCKS_AHEAD = 2


@dataclass(frozen=True)
class LocalBatch:
    """One rank's rows of a global batch, in the order of their global positions."""

    features: dict[str, torch.Tensor]
    """By name: (rows, *shape); token ids as int32."""
    labels: torch.Tensor | None
    """(rows,), int64; None where the data set has no label column."""
    keys: npt.NDArray[np.uint64]
    """(rows, 2): the two halves of each record key."""
    record_ids: npt.NDArray[np.object_] | None
    """(rows,) of str; None unless the ids are asked for."""
    rows: int
    """Of this rank; may be 0."""
    global_rows: int
    """Of all ranks together."""
    epoch: int
    position: int
    """Rows that all ranks together have taken since the start of the training, this batch included."""


def columns_of(manifest: Manifest, with_ids: bool = False) -> list[Column]:
    """The columns that training reads: keys, the label where there is one, features."""
    roles = ("id", "key", "label", "feature") if with_ids else ("key", "label", "feature")
    return [column for column in manifest.content.columns if column.role in roles]


def split_order(manifest: Manifest, split: str, settings: Train) -> SplitOrder:
    """The order of a split as `[train]` configures it."""
    return SplitOrder(
        row_groups_of([shard.row_groups for shard in manifest.splits[split].shards if shard.rows]),
        settings.streams,
        settings.window,
        manifest.manifest_root,
        settings.seed,
    )


class Feed:
    """The batches of a rank from a position to the end of the last epoch; an iterator and a context manager.

    `seconds_waited` is how long the caller has waited for batches. Errors of the reader come out of `next`.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        settings: Train,
        world: World,
        epochs: int = 1,
        position: int = 0,
        batch: int | None = None,
        options: Storage | None = None,
        pinned: bool = False,
        with_ids: bool = False,
    ) -> None:
        """`position` counts rows since the start of the first epoch. `pinned`: tensors in page-locked memory.

        `with_ids`: the record ids are read as well, for audits.
        """
        self.order, self.world, self.epochs = split_order(manifest, split, settings), world, epochs
        self.batch, self.position = batch or settings.batch, position
        self.columns = columns_of(manifest, with_ids)
        self.seconds_waited = 0.0
        self.reader: PlannedReader | None = None
        self._blocks: Iterator[Block] = iter(())
        self._prefetcher: Prefetcher[Block] | None = None
        if self.order.rows and self.order.streams_of(world):
            files = SplitFiles.of(manifest, split, self.columns, options)
            need = memory_need(self.order, world, self.columns, settings)
            plan = (segment.row_group for _, window in self._windows() for segment in window.segments)
            self.reader = PlannedReader(files, plan, settings.workers, need.ahead, need.together)
            pool = WindowPool(self.columns, need, self._windows(), self.reader, pinned)
            self._blocks = self._prefetcher = Prefetcher(self._all_blocks(pool), BLOCKS_AHEAD, "place rows")
        self._batches = self._all_batches()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads of the reader."""
        if self.reader is not None:
            self.reader.stop()
            self.reader.join()
        if self._prefetcher is not None:
            self._prefetcher.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LocalBatch:
        began = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self.seconds_waited += time.perf_counter() - began

    def _epochs(self) -> Iterator[tuple[int, int]]:
        """Epochs that are still to come, each with the position in it from which on it is read."""
        if self.order.rows:
            first, start = divmod(self.position, self.order.rows)
            for epoch in range(first, self.epochs):
                yield epoch, start if epoch == first else 0

    def _windows(self) -> Iterator[tuple[EpochOrder, Window]]:
        """The windows that the blocks are made of, in the order in which they are needed."""
        for epoch, start in self._epochs():
            order = self.order.epoch(epoch)
            for window in reading_order(order, self.world, start):
                yield order, window

    def _all_blocks(self, pool: WindowPool) -> Iterator[Block]:
        for epoch, start in self._epochs():
            yield from pool.blocks(self.order.epoch(epoch), self.world, start)

    def _all_batches(self) -> Iterator[LocalBatch]:
        for epoch, start in self._epochs():
            block: Block | None = None
            for batch in self.order.batches(self.batch, start):
                first = self.order.local_rows(self.world, batch.first)
                last = self.order.local_rows(self.world, batch.last)
                parts = []
                while first < last:
                    if block is None or first >= block.first + block.rows:
                        block = next(self._blocks)
                        continue
                    upto = min(last, block.first + block.rows)
                    parts.append(block.part(first - block.first, upto - block.first))
                    first = upto
                rows = joined(parts, self.columns)
                yield LocalBatch(
                    rows.features,
                    rows.labels,
                    rows.keys,
                    rows.record_ids,
                    rows.rows,
                    batch.rows,
                    epoch,
                    epoch * self.order.rows + batch.last,
                )
