"""From row groups to batches: each rank's share of every global batch, as tensors, from any position on.

The order comes from `training.input.order`, the row groups from `training.input.petastorm_reader`.
`training.input.windows` puts rows in their places in a thread, one block ahead of the batches that are cut from them
here.
"""

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from common.storage import Storage
from schemas.manifest import Column, Manifest
from schemas.settings import Train
from training.input.columns import AUDITED, Bundle, SplitFiles, bundles_of
from training.input.memory import MemoryNeed, memory_need
from training.input.order import EpochOrder, SplitOrder, Window, reading_order, row_groups_of
from training.input.petastorm_reader import PlannedReader
from training.input.prefetch import Prefetcher
from training.input.wide_rows import WideBlocks
from training.input.windows import Block, WindowPool, joined
from training.parallel.world import World


@dataclass(slots=True)
class LocalBatch:
    """One rank's rows of a global batch, in the order of their global positions."""

    features: dict[str, torch.Tensor]
    """Feature tensors by name: (rows, *shape), views of one tensor where several are alike; token ids as int32."""
    labels: torch.Tensor | None
    """(rows,), int64; None if the data set has no label column."""
    keys: npt.NDArray[np.uint64]
    """(rows, 2): the two halves of each record key."""
    record_ids: npt.NDArray[np.object_] | None
    """(rows,) of str; None unless the ids are asked for."""
    rows: int
    """Rows of this rank; may be 0."""
    global_rows: int
    """Rows of all ranks together."""
    epoch: int
    position: int
    """Rows taken by all ranks together since the start of the training, including this batch."""
    split: str = "train"
    documents: npt.NDArray[np.object_] | None = None
    """(rows,) of lists of dicts, as in the shards; None unless the ids are asked for and rows are packed."""
    silos: tuple[tuple[int, int], ...] = ()
    """Number and rows of each silo that has a part in it, in the order of the rows; () unless silos are read."""

    @classmethod
    def of(
        cls,
        block: Block,
        bundles: Sequence[Bundle],
        global_rows: int,
        epoch: int,
        position: int,
        split: str = "train",
    ) -> Self:
        """Return the rows of a block as a batch."""
        features: dict[str, torch.Tensor] = {}
        for bundle in bundles:
            features |= bundle.separated(block.features[bundle.name])
        ids, documents = block.record_ids, block.documents
        known = (ids, block.rows, global_rows, epoch, position, split, documents)
        return cls(features, block.labels, block.keys, *known)

    def shown_documents(self) -> list[list[dict[str, Any]]]:
        """Return the parts of records in each packed row: `record_id`, `first` and `last` token; [] without any."""
        rows = [] if self.documents is None else self.documents.tolist()
        return [[{key: one[key] for key in ("record_id", "first", "last")} for one in row] for row in rows]

    def part(self, first: int, last: int) -> Self:
        """Return the rows `first` to `last` (exclusive) of this rank, within the same global batch, without copying."""
        return dataclasses.replace(
            self,
            features={name: values[first:last] for name, values in self.features.items()},
            labels=None if self.labels is None else self.labels[first:last],
            keys=self.keys[first:last],
            record_ids=None if self.record_ids is None else self.record_ids[first:last],
            documents=None if self.documents is None else self.documents[first:last],
            rows=len(self.keys[first:last]),
            silos=(),
        )

    def rows_at(self, places: npt.NDArray[np.int64]) -> Self:
        """Return a copy of the rows at some places, (rows,), within the same global batch."""
        chosen = torch.from_numpy(places)
        return dataclasses.replace(
            self,
            features={name: values[chosen] for name, values in self.features.items()},
            labels=None if self.labels is None else self.labels[chosen],
            keys=self.keys[places],
            record_ids=None if self.record_ids is None else self.record_ids[places],
            documents=None if self.documents is None else self.documents[places],
            rows=len(places),
            silos=(),
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the rows of one part or more behind each other; all else is that of the first."""
        first, *others = parts
        if not others:
            return first
        labels = [part.labels for part in parts if part.labels is not None]
        ids = [part.record_ids for part in parts if part.record_ids is not None]
        documents = [part.documents for part in parts if part.documents is not None]
        return dataclasses.replace(
            first,
            features={name: torch.cat([part.features[name] for part in parts]) for name in first.features},
            labels=torch.cat(labels) if labels else None,
            keys=np.concatenate([part.keys for part in parts]),
            record_ids=np.concatenate(ids) if ids else None,
            documents=np.concatenate(documents) if documents else None,
            rows=sum(part.rows for part in parts),
        )

    def of_epoch(self, epoch: int) -> Self:
        """Return the same rows as a batch of another epoch."""
        return dataclasses.replace(self, epoch=epoch)

    def to(self, device: torch.device) -> Self:
        """Return the same rows with features and labels on a device; keys and ids stay where they are."""
        return dataclasses.replace(
            self,
            features={name: values.to(device, non_blocking=True) for name, values in self.features.items()},
            labels=None if self.labels is None else self.labels.to(device, non_blocking=True),
        )


def columns_of(manifest: Manifest, with_ids: bool = False) -> list[Column]:
    """Return the columns that training reads: keys, the label if there is one, features; `with_ids` those of audits."""
    roles = ("key", "label", "feature", *(AUDITED if with_ids else ()))
    return [column for column in manifest.content.columns if column.role in roles]


def split_order(manifest: Manifest, split: str, settings: Train) -> SplitOrder:
    """Return the order of a split as `[train]` configures it, over the rows as an epoch takes them."""
    shards = [shard for shard in manifest.splits[split].shards if shard.rows]
    return SplitOrder(
        row_groups_of([shard.epoch_row_groups or shard.row_groups for shard in shards]),
        settings.streams,
        settings.window,
        manifest.manifest_root,
        settings.seed,
    )


def read_need(
    manifest: Manifest,
    split: str,
    settings: Train,
    world: World,
    batch: int | None = None,
    options: Storage | None = None,
) -> MemoryNeed:
    """Return the memory that a `BatchLoader` with these arguments will hold on this rank."""
    columns = columns_of(manifest)
    largest = SplitFiles.of(manifest, split, columns, options).largest
    return memory_need(split_order(manifest, split, settings), world, columns, settings, batch, largest)


class BatchLoader:
    """Batches of a rank from a position to the end of the last epoch; an iterator and a context manager.

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
        """Start the reader; `position` counts rows since the start of the first epoch.

        `pinned` puts the tensors in page-locked memory; `with_ids` also reads the record ids, and the documents of
        packed rows, for audits.
        """
        self.order, self.world, self.epochs = split_order(manifest, split, settings), world, epochs
        self.split, self.batch, self.position = split, batch or settings.batch, position
        self.columns = columns_of(manifest, with_ids)
        # On a GPU each feature is copied by itself, which wants it in one piece.
        self.bundles = bundles_of(self.columns, separate=pinned)
        self.seconds_waited, self.pinned = 0.0, pinned
        self._together = 1
        self.reader: PlannedReader | None = None
        self._several: Iterator[list[LocalBatch]]
        self._blocks: Iterator[Block] = iter(())
        self._threads: list[Prefetcher[Any]] = []
        if self.order.rows and self.order.streams_of(world):
            files = SplitFiles.of(manifest, split, self.columns, options)
            need = memory_need(self.order, world, self.columns, settings, self.batch, files.largest)
            self._together = need.batches
            # One plan for both, so that its permutations are computed once. The reader is ahead by what it prefetches.
            to_read, to_place = itertools.tee(self._windows())
            wide = WideBlocks(self.columns, need, self.order.streams_of(world), pinned)
            self.reader = PlannedReader(
                files, wide.plan(to_read), settings.workers, need.ahead, need.together
            )
            pool = WindowPool(
                self.columns, self.bundles, need, to_place, self.reader, wide, pinned, files.repeats
            )
            self._blocks = placing = Prefetcher(self._all_blocks(pool), 1, "place rows")
            self._several = cutting = Prefetcher(self._lists(), 1, "cut batches")
            self._threads = [placing, cutting]
        else:
            self._several = self._lists()
        self._ready: Iterator[LocalBatch] = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads of the reader."""
        if self.reader is not None:
            self.reader.stop()
            self.reader.join()
        for thread in self._threads:
            thread.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LocalBatch:
        batch = next(self._ready, None)
        if batch is None:
            began = time.perf_counter()
            try:
                self._ready = iter(next(self._several))
            finally:
                self.seconds_waited += time.perf_counter() - began
            batch = next(self._ready)
        return batch

    def _epochs(self) -> Iterator[tuple[int, int]]:
        """Yield the remaining epochs, each with the position in it where reading starts."""
        if self.order.rows:
            first, start = divmod(self.position, self.order.rows)
            for epoch in range(first, self.epochs):
                yield epoch, start if epoch == first else 0

    def _windows(self) -> Iterator[tuple[EpochOrder, Window]]:
        """Yield the windows that the blocks are made of, in the order in which they are needed."""
        for epoch, start in self._epochs():
            order = self.order.epoch(epoch)
            for window in reading_order(order, self.world, start):
                yield order, window

    def _all_blocks(self, pool: WindowPool) -> Iterator[Block]:
        for epoch, start in self._epochs():
            yield from pool.blocks(self.order.epoch(epoch), self.world, start)

    def _lists(self) -> Iterator[list[LocalBatch]]:
        batches = self._all_batches()
        while several := list(itertools.islice(batches, self._together)):
            yield several

    def _all_batches(self) -> Iterator[LocalBatch]:
        for epoch, start in self._epochs():
            block: Block | None = None
            last = self.order.local_rows(self.world, start)
            for batch in self.order.batches(self.batch, start):
                first, last = last, self.order.local_rows(self.world, batch.last)
                parts = []
                while first < last:
                    if block is None or first >= block.end:
                        block = next(self._blocks)
                        assert block.epoch == epoch
                        assert block.first <= first
                        continue
                    upto = min(last, block.end)
                    parts.append(block.part(first - block.first, upto - block.first))
                    first = upto
                rows = parts[0] if len(parts) == 1 else joined(parts, self.columns, self.bundles, self.pinned)
                position = epoch * self.order.rows + batch.last
                yield LocalBatch.of(rows, self.bundles, batch.rows, epoch, position, self.split)
