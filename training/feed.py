"""From row groups to batches: every rank's share of each global batch, as tensors, from any position on.

The order comes from `training.order`, the row groups from `training.data`; here rows are put in their places.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from schemas.errors import UsageError
from schemas.manifest import Column, Manifest
from schemas.settings import Storage, Train
from training.columns import Arrays, SplitFiles, element_type, row_bytes
from training.data import PlannedReader
from training.order import SplitOrder, Window, World, reading_order, row_groups_of

BLOCK_ROWS = 4096
"""About so many rows are put in their places at a time."""


@dataclass(frozen=True)
class LocalBatch:
    """One rank's rows of a global batch, in the order of their global positions."""

    features: dict[str, torch.Tensor]
    """By name: (rows, *shape); token ids as int32."""
    labels: torch.Tensor | None
    """(rows,), int64; None where the data set has no label column."""
    keys: npt.NDArray[np.uint64]
    """(rows, 2): the two halves of each record key."""
    rows: int
    """Of this rank; may be 0."""
    global_rows: int
    """Of all ranks together."""
    epoch: int
    position: int
    """Rows that all ranks together have taken since the start of the training, this batch included."""


@dataclass(frozen=True)
class MemoryNeed:
    """What the reader of a rank holds at most, in bytes."""

    windows: int
    """Streams of the rank × row groups of a window × decoded bytes of a row group."""
    ahead: int
    """Row groups read ahead."""
    block: int
    """Rows put in their places."""

    @property
    def total(self) -> int:
        return self.windows + self.ahead + self.block


def columns_of(manifest: Manifest) -> list[Column]:
    """The columns that training reads: keys, the label where there is one, features."""
    return [column for column in manifest.content.columns if column.role in ("key", "label", "feature")]


def split_order(manifest: Manifest, split: str, settings: Train) -> SplitOrder:
    """The order of a split as `[train]` configures it."""
    return SplitOrder(
        row_groups_of([shard.row_groups for shard in manifest.splits[split].shards if shard.rows]),
        settings.streams,
        settings.window,
        manifest.manifest_root,
        settings.seed,
    )


def read_ahead(settings: Train) -> int:
    """How many row groups are read before they are needed: one in each worker's hands, and one waiting."""
    return 2 * settings.workers


def memory_need(order: SplitOrder, world: World, columns: Sequence[Column], settings: Train) -> MemoryNeed:
    """What the reader of a rank will hold, from the manifest alone."""
    owned = len(order.streams_of(world))
    width = row_bytes(columns)
    group = max(order.row_groups, default=0) * width
    return MemoryNeed(
        windows=owned * min(settings.window, len(order.row_groups)) * group,
        ahead=read_ahead(settings) * group,
        block=_elements(owned) * owned * width,
    )


def check_memory(need: MemoryNeed, settings: Train) -> None:
    """Raises UsageError with the remedy where the reader would hold more than `train.read_memory`."""
    if need.total > settings.read_memory:
        raise UsageError(
            f"reading would hold {need.total:,} bytes on this rank, above train.read_memory = "
            f"{settings.read_memory:,}: lower train.streams or train.window, start more ranks, "
            "publish smaller row groups (publish.rows_per_group), or raise train.read_memory"
        )


def _elements(owned: int) -> int:
    return max(1, BLOCK_ROWS // max(1, owned))


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
    ) -> None:
        """`position` counts rows since the start of the first epoch. `pinned`: tensors in page-locked memory."""
        self.order, self.world, self.epochs = split_order(manifest, split, settings), world, epochs
        self.batch, self.position, self.pinned = batch or settings.batch, position, pinned
        self.columns = columns_of(manifest)
        self.seconds_waited = 0.0
        self.reader: PlannedReader | None = None
        self._held: dict[tuple[int, int, int], _Loaded] = {}
        self._arriving: Iterator[tuple[int, Window]] = self._windows()
        if self.order.rows and self.order.streams_of(world):
            files = SplitFiles.of(manifest, split, self.columns, options)
            plan = (segment.row_group for _, window in self._windows() for segment in window.segments)
            self.reader = PlannedReader(files, plan, settings.workers, read_ahead(settings))
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

    def _windows(self) -> Iterator[tuple[int, Window]]:
        for epoch, start in self._epochs():
            for window in reading_order(self.order.epoch(epoch), self.world, start):
                yield epoch, window

    def _all_batches(self) -> Iterator[LocalBatch]:
        for epoch, start in self._epochs():
            blocks = self._blocks(epoch, start)
            block, begin, end = None, 0, 0  # the local rows `begin` to `end` lie in `block`
            for batch in self.order.batches(self.batch, start):
                first = self.order.local_rows(self.world, batch.first)
                last = self.order.local_rows(self.world, batch.last)
                parts = []
                while first < last:
                    if block is None or first >= end:
                        begin, block = next(blocks)
                        end = begin + len(next(iter(block.values())))
                        continue
                    upto = min(last, end)
                    parts.append({name: rows[first - begin : upto - begin] for name, rows in block.items()})
                    first = upto
                total = epoch * self.order.rows + batch.last
                yield self._tensors(parts, batch.rows, epoch, total)

    def _blocks(self, epoch: int, start: int) -> Iterator[tuple[int, Arrays]]:
        """Consecutive local rows, each time with the number of the first: arrays of (rows, *shape)."""
        order, owned = self.order, self.order.streams_of(self.world)
        if not owned:
            return
        rows = order.local_rows(self.world, order.rows)
        element, step = order.local_rows(self.world, start) // len(owned), _elements(len(owned))
        this_epoch = order.epoch(epoch)
        windows = {stream: iter(this_epoch.windows(stream)) for stream in owned}
        current = {stream: next(windows[stream]) for stream in owned}
        while element * len(owned) < rows:
            upto = element + step
            block = {
                column.name: np.zeros((step, len(owned), *column.shape), dtype=element_type(column))
                for column in self.columns
            }
            for place, stream in enumerate(owned):
                at, stop = element, min(upto, order.stream_rows(stream))
                while at < stop:
                    window = current[stream]
                    if window.end <= at:
                        self._held.pop((epoch, stream, window.index), None)
                        current[stream] = next(windows[stream])
                        continue
                    part = min(stop, window.end)
                    loaded = self._load(epoch, window)
                    chosen = loaded.shuffled[at - window.first : part - window.first]
                    for name, values in loaded.arrays.items():
                        block[name][at - element : part - element, place] = values[chosen]
                    at = part
            begin = element * len(owned)
            count = min(step * len(owned), rows - begin)
            yield begin, {name: a.reshape(-1, *a.shape[2:])[:count] for name, a in block.items()}
            element = upto
        for stream, window in current.items():
            self._held.pop((epoch, stream, window.index), None)

    def _load(self, epoch: int, wanted: Window) -> "_Loaded":
        """The rows of a window; takes row groups out of the reader until it is complete."""
        key = (epoch, wanted.stream, wanted.index)
        while key not in self._held:
            arrived, window = next(self._arriving)
            assert self.reader is not None
            parts = []
            for segment in window.segments:
                arrays = next(self.reader)
                parts.append({name: a[segment.first : segment.last] for name, a in arrays.items()})
            arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            shuffled = self.order.epoch(arrived).shuffled(window)
            self._held[arrived, window.stream, window.index] = _Loaded(arrays, shuffled)
        return self._held[key]

    def _tensors(self, parts: list[Arrays], global_rows: int, epoch: int, position: int) -> LocalBatch:
        features: dict[str, torch.Tensor] = {}
        labels, keys, rows = None, np.zeros((0, 2), dtype=np.uint64), 0
        for column in self.columns:
            pieces = [part[column.name] for part in parts]
            empty = np.zeros((0, *column.shape), dtype=element_type(column))
            values = pieces[0] if len(pieces) == 1 else np.concatenate([empty, *pieces])
            if column.role == "key":
                rows = len(values)
                keys = np.ascontiguousarray(values).view("<u8").reshape(-1, 2)
            elif column.role == "label":
                labels = self._tensor(values.astype(np.int64))
            else:
                features[column.name] = self._tensor(_for_model(values))
        return LocalBatch(features, labels, keys, rows, global_rows, epoch, position)

    def _tensor(self, values: npt.NDArray[Any]) -> torch.Tensor:
        tensor = torch.from_numpy(values)
        return tensor.pin_memory() if self.pinned else tensor


@dataclass(frozen=True)
class _Loaded:
    """A window in memory: its rows as they came, and which of them each element is."""

    arrays: Arrays
    shuffled: npt.NDArray[np.int64]


def _for_model(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Token ids as int32, the smallest type that embeddings take; everything else in native byte order."""
    if values.dtype.kind in "ui":
        return values.astype(np.int32)
    return np.array(values, dtype=values.dtype.newbyteorder("="))
