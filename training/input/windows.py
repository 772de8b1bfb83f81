"""Windows that a rank's rows are drawn from, and the placement of these rows.

All windows of a column lie in one array, each in a slot of its own. So a block of rows, from any number of streams, is
one gather (`numpy.take`), and memory does not depend on the size of the data set.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from schemas.manifest import Column
from training.input.buffers import Buffers
from training.input.class_balance import rows_of
from training.input.columns import Arrays, Bundle, dtype_for_model, element_type
from training.input.memory import BLOCKS, MemoryNeed
from training.input.order import EpochOrder, Segment, Window
from training.input.wide_rows import WideBlocks
from training.parallel.world import World


@dataclass(slots=True)
class Block:
    """Consecutive rows of a rank."""

    epoch: int
    first: int
    """Local row (see `training.input.order`) of the first one."""
    rows: int
    features: dict[str, torch.Tensor]
    """Tensors by bundle: (rows, *shape); codes as int32."""
    labels: torch.Tensor | None
    """(rows,), int64."""
    keys: npt.NDArray[np.uint64]
    """(rows, 2)."""
    record_ids: npt.NDArray[np.object_] | None
    """(rows,) of str, if the ids are read."""
    documents: npt.NDArray[np.object_] | None = None
    """(rows,) of lists of dicts, if the ids are read and rows are packed: the parts of records in each row."""

    @property
    def end(self) -> int:
        """Local row after the last."""
        return self.first + self.rows

    def part(self, first: int, last: int) -> "Block":
        """Return the rows `first` to `last` (exclusive) of the block, without copying."""
        return Block(
            self.epoch,
            self.first + first,
            last - first,
            {name: values[first:last] for name, values in self.features.items()},
            None if self.labels is None else self.labels[first:last],
            self.keys[first:last],
            None if self.record_ids is None else self.record_ids[first:last],
            None if self.documents is None else self.documents[first:last],
        )


def joined(
    blocks: Sequence[Block], columns: Sequence[Column], bundles: Sequence[Bundle], pinned: bool = False
) -> Block:
    """Join consecutive blocks, in page-locked memory if `pinned`; no blocks give a block of no rows."""
    if not blocks:
        return Block(
            0,
            0,
            0,
            {
                one.name: torch.zeros((0, *one.shape), dtype=dtype_for_model(one.columns[0]))
                for one in bundles
            },
            torch.zeros(0, dtype=torch.int64) if any(c.role == "label" for c in columns) else None,
            np.zeros((0, 2), dtype=np.uint64),
            *(
                np.zeros(0, object) if any(c.role == r for c in columns) else None
                for r in ("id", "documents")
            ),
        )
    labels = [block.labels for block in blocks if block.labels is not None]
    ids = [block.record_ids for block in blocks if block.record_ids is not None]
    documents = [block.documents for block in blocks if block.documents is not None]
    return Block(
        blocks[0].epoch,
        blocks[0].first,
        sum(block.rows for block in blocks),
        {name: _cat([block.features[name] for block in blocks], pinned) for name in blocks[0].features},
        _cat(labels, pinned) if labels else None,
        np.concatenate([block.keys for block in blocks]),
        np.concatenate(ids) if ids else None,
        np.concatenate(documents) if documents else None,
    )


def _cat(parts: list[torch.Tensor], pinned: bool) -> torch.Tensor:
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    out = torch.empty(shape, dtype=parts[0].dtype, pin_memory=pinned)
    return torch.cat(parts, out=out)


@dataclass
class _Loaded:
    """A window in its slot."""

    window: Window
    slot: int
    rows: npt.NDArray[np.intp] = field(repr=False)
    """Row of the pool for each element of the window."""


@dataclass
class _Loading:
    """A window some of whose row groups have arrived."""

    epoch: EpochOrder
    window: Window
    slot: int
    segments: Iterator[Segment]
    left: int
    """Segments still to come."""
    at: int
    """Row of the pool for the next segment."""
    rows: list[npt.NDArray[np.int64]] = field(default_factory=list)
    """Row of the pool for each row taken, segment by segment; only if rows are taken several times."""


class Arriving(Protocol):
    """Row groups, one after another, in the order of the plan."""

    def __next__(self) -> Arrays: ...

    @property
    def ready(self) -> bool:
        """True if the next one is there."""


class WindowPool:
    """Pool of windows of rows, from which blocks are gathered."""

    def __init__(
        self,
        columns: Sequence[Column],
        bundles: Sequence[Bundle],
        need: MemoryNeed,
        plan: Iterator[tuple[EpochOrder, Window]],
        arriving: Arriving,
        wide: WideBlocks,
        pinned: bool = False,
        repeats: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Set up the pool for `plan`, the windows of all epochs in the order in which they are needed.

        `arriving` yields the row groups of their segments, without the wide columns, whose rows its workers put into
        `wide`. `pinned` puts blocks in page-locked memory, from where copies to a GPU are asynchronous. `repeats` holds
        the repeats of rows by label index, 0 for rows to leave out; None: each once.
        """
        self.columns, self.bundles, self.need = columns, bundles, need
        self.wide, self.repeats = wide, repeats
        self.leaves_out = repeats is not None and not repeats.all()
        self.label = next((column.name for column in columns if column.role == "label"), "")
        self.plan, self.arriving = plan, arriving
        rows = need.slots * need.slot_rows
        self.pool: Arrays = {
            column.name: np.empty((rows, *column.shape), dtype=element_type(column))
            for column in columns
            if column.role != "feature"
        }
        self._bundled: Arrays = {
            bundle.name: np.empty((rows, *bundle.shape), dtype=element_type(bundle.columns[0]))
            for bundle in bundles
            if bundle.columns[0] not in wide.columns
        }
        for bundle in bundles:
            if bundle.name in self._bundled:
                views = bundle.separated(torch.from_numpy(self._bundled[bundle.name]))
                self.pool |= {name: view.numpy() for name, view in views.items()}
        self.free = list(range(need.slots))
        self._upcoming = next(plan, None)
        self._loading: _Loading | None = None
        self._held: defaultdict[tuple[int, int], deque[_Loaded]] = defaultdict(deque)
        self._scratch: Arrays = {}
        self._buffers = Buffers(BLOCKS + 1, pinned)

    def blocks(self, epoch: EpochOrder, world: World, start: int) -> Iterator[Block]:
        """Yield the rows of a rank from the position `start` of an epoch to its end.

        Free slots take windows from further on in the plan, including the next epoch, as they arrive.
        """
        split = epoch.split
        owned = split.streams_of(world)
        if not owned:
            return
        total, begun = split.local_rows(world, split.rows), split.local_rows(world, start)
        if begun >= total:
            return
        element = begun // len(owned)
        end = -(-total // len(owned))
        while element < end:
            # Blocks end at multiples of their size, wherever the first one begins.
            upto = min(end, (element // self.need.block + 1) * self.need.block)
            while (first := self._next_first(epoch)) is not None and first < upto:
                if not self._advance():
                    # No slot is free. Windows come in the order of their first elements: those before are all complete.
                    upto = first
                    break
            places = np.zeros((upto - element, len(owned)), dtype=np.intp)
            for column, stream in enumerate(owned):
                for loaded in self._held[epoch.epoch, stream]:
                    first, last = max(element, loaded.window.first), min(upto, loaded.window.end)
                    if first < last:
                        chosen = loaded.rows[first - loaded.window.first : last - loaded.window.first]
                        places[first - element : last - element, column] = chosen
            first_row = element * len(owned)
            # In the last element of an epoch the shorter streams have no row left.
            yield self._gather(places.reshape(-1)[: total - first_row], epoch.epoch, first_row)
            element = upto
            for stream in owned:
                held = self._held[epoch.epoch, stream]
                while held and held[0].window.end <= element:
                    self.free.append(held.popleft().slot)
            while self.arriving.ready and self._advance():
                pass
        for stream in owned:
            self._held.pop((epoch.epoch, stream), None)

    def _next_first(self, epoch: EpochOrder) -> int | None:
        """Return the first element of the next incomplete window; None if that belongs to another epoch."""
        if self._loading is not None:
            found, window = self._loading.epoch, self._loading.window
        elif self._upcoming is not None:
            found, window = self._upcoming
        else:
            return None
        return window.first if found.epoch == epoch.epoch else None

    def _advance(self) -> bool:
        """Wait for one more row group and put it in place; return False if no slot is free, or none is to come."""
        loading = self._loading
        if loading is None:
            if self._upcoming is None or not self.free:
                return False
            epoch, window = self._upcoming
            slot = self.free.pop()
            loading = _Loading(
                epoch, window, slot, iter(window.segments), len(window.segments), slot * self.need.slot_rows
            )
            self._loading, self._upcoming = loading, next(self.plan, None)
        segment, arrays = next(loading.segments), next(self.arriving)
        first, last = segment.first, segment.last
        if self.repeats is not None:
            # A segment counts rows as they are taken; each is stored once in the pool, however often it is taken.
            repeated = rows_of(arrays[self.label], self.repeats)[first:last]
            if self.leaves_out:
                kept, repeated = np.unique(repeated, return_inverse=True)
                arrays = {name: values[kept] for name, values in arrays.items()}
            first, last = int(repeated[0]), int(repeated[-1]) + 1
            loading.rows.append(repeated + (loading.at - first))
        rows = last - first
        for name, values in arrays.items():
            self.pool[name][loading.at : loading.at + rows] = values[first:last]
        loading.at, loading.left = loading.at + rows, loading.left - 1
        if not loading.left:
            chosen = loading.epoch.shuffled(loading.window)
            if self.repeats is None:
                chosen += loading.slot * self.need.slot_rows
            else:
                chosen = np.concatenate(loading.rows)[chosen]
            whole = _Loaded(loading.window, loading.slot, chosen)
            self._held[loading.epoch.epoch, loading.window.stream].append(whole)
            self._loading = None
        return True

    def _gather(self, places: npt.NDArray[np.intp], epoch: int, first: int) -> Block:
        features: dict[str, torch.Tensor] = {}
        labels = record_ids = documents = None
        keys = np.empty((len(places), 2), dtype=np.uint64)
        features |= self.wide.rows(epoch, first, len(places))
        for bundle in self.bundles:
            if bundle.name in self._bundled:
                dtype = dtype_for_model(bundle.columns[0])
                features[bundle.name] = self._tensor(bundle.name, self._bundled[bundle.name], places, dtype)
        for column in self.columns:
            if column.role == "feature":
                continue
            values = self.pool[column.name]
            if column.role == "key":
                np.take(values, places, axis=0, out=keys, mode="clip")
            elif column.role == "id":
                record_ids = values[places]
            elif column.role == "documents":
                documents = values[places]
            elif column.role == "label":
                labels = self._tensor(column.name, values, places, torch.int64)
        return Block(epoch, first, len(places), features, labels, keys, record_ids, documents)

    def _tensor(
        self, name: str, values: npt.NDArray[Any], places: npt.NDArray[np.intp], dtype: torch.dtype
    ) -> torch.Tensor:
        tensor = self._buffers.empty(name, (len(places), *values.shape[1:]), dtype)
        out = tensor.numpy()
        if out.dtype == values.dtype:
            np.take(values, places, axis=0, out=out, mode="clip")
        else:
            scratch = self._scratch.get(name)
            if scratch is None or len(scratch) < len(places):
                scratch = np.empty((len(places), *values.shape[1:]), dtype=values.dtype)
                self._scratch[name] = scratch
            # `clip`, because numpy buffers the output when it checks indices; these are in range by construction.
            np.take(values, places, axis=0, out=scratch[: len(places)], mode="clip")
            out[...] = scratch[: len(places)]
        return tensor
