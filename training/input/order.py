"""The order in which rows of a split are read, as integer arithmetic: no files, no communication, no clock.

In each epoch the row groups of a split are permuted and laid end to end: N rows. They are cut into S streams of N // S
rows, the first N % S of them one row longer. Within a stream, rows are shuffled in windows of a few row groups. Global
row p is then element p // S of stream p % S, global batch k holds the rows k·B to (k+1)·B, and rank r of R owns the
streams r, r + R, r + 2R, … So the contents of a global batch do not depend on R, every row is read exactly once in an
epoch, and a position in an epoch is one integer.

If the class balance takes rows several times in an epoch, each repeat counts as a row of its own: the sizes of the row
groups then count the rows taken from them, with a row's repeats side by side (`training.input.class_balance.rows_of`).

Letters: N rows, G row groups, S streams, B rows of a global batch, R ranks, r a rank, p a global row, e an element (a
row's place in its stream), q a local row (a row's place among those of one rank, in order of p).
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from common.errors import UsageError
from training.parallel.world import World

FEW_ROWS = 64
"""Rows a rank below which a rank without rows is no waste: the smallest row group that is published by default."""


@dataclass(frozen=True)
class Segment:
    """Rows `first` to `last` (exclusive) of a row group, which is numbered within its split."""

    row_group: int
    first: int
    last: int


@dataclass(frozen=True)
class Window:
    """Elements of one stream that are shuffled together: `first` and `rows` count elements of the stream."""

    stream: int
    index: int
    first: int
    rows: int
    segments: tuple[Segment, ...]

    @property
    def end(self) -> int:
        """Element after the last."""
        return self.first + self.rows


@dataclass(frozen=True)
class GlobalBatch:
    """Rows `first` to `last` (exclusive) of an epoch: one global batch, or the rest of it."""

    first: int
    last: int

    @property
    def rows(self) -> int:
        return self.last - self.first

    def number(self, size: int) -> int:
        """Return the number in the epoch of a batch of `size` rows."""
        return self.first // size


def permutation(count: int, *key: str | int) -> npt.NDArray[np.int64]:
    """Return a permutation of 0 … count-1 determined by `key`, the same on every machine and with every numpy.

    It sorts the raw output of a counter-based generator, which numpy guarantees not to change (NEP 19), unlike
    `Generator.permutation`. The low bits of each number are replaced by its place, so that no two are equal and a sort
    of values does what `argsort` would, in a third of the time. Shape (count,), dtype int64.
    """
    digest = hashlib.sha256("\0".join(["ringlake order 1", *map(str, key)]).encode()).digest()
    raw = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(count)
    places = np.uint64((1 << max(0, count - 1).bit_length()) - 1)
    raw &= ~places
    raw |= np.arange(count, dtype=np.uint64)
    raw.sort()
    return (raw & places).astype(np.int64)


@dataclass(frozen=True)
class SplitOrder:
    """Order of a split in all epochs.

    `row_groups` holds the rows taken of each, in the order of the manifest; one of which none is taken has no place in
    the order. `streams` and `window` are as configured; `root` is the manifest's, and `seed` any integer, including 0.
    """

    row_groups: tuple[int, ...]
    streams: int
    window: int
    root: str
    seed: int

    def __post_init__(self) -> None:
        if any(rows < 0 for rows in self.row_groups):
            raise ValueError("a row group cannot have less than no row")
        if self.streams < 1 or self.window < 1:
            raise ValueError("streams and window must be at least 1")

    @cached_property
    def rows(self) -> int:
        """N, the rows of the split."""
        return sum(self.row_groups)

    @cached_property
    def stream_count(self) -> int:
        """S: as configured, but at most one stream per row group taken; the number of ranks plays no part."""
        return max(1, min(self.streams, self.groups_taken))

    @cached_property
    def groups_taken(self) -> int:
        """Row groups of which an epoch takes a row."""
        return sum(rows > 0 for rows in self.row_groups)

    def epoch(self, epoch: int) -> "EpochOrder":
        """Return the order of one epoch, counted from 0."""
        return EpochOrder(self, epoch)

    def check_world(self, world: World) -> None:
        """Raise UsageError if there are more ranks than streams, because some ranks would never have a row.

        A split of less than FEW_ROWS rows a rank passes: no rank more or less makes a difference there.
        """
        if self.idle_ranks(world) and (self.rows >= FEW_ROWS * world.size or world.size > self.streams):
            raise UsageError(
                f"{world.size} ranks cannot share {self.stream_count} streams: start at most "
                f"{self.stream_count} ranks, or raise train.streams (now {self.streams}) and publish more row groups "
                f"(now {self.groups_taken}; a smaller publish.rows_per_group makes more)"
            )

    def idle_ranks(self, world: World) -> int:
        """Count the ranks without a stream, which never have a row."""
        return max(0, world.size - self.stream_count)

    def streams_of(self, world: World) -> range:
        """Return the streams that a rank owns."""
        return range(world.rank, self.stream_count, world.size)

    def owners(self, batch: GlobalBatch, ranks: int) -> npt.NDArray[np.int64]:
        """Return the rank, out of `ranks`, that owns each row of a global batch; shape (rows,), dtype int64."""
        return np.arange(batch.first, batch.last) % self.stream_count % ranks

    def local_rows(self, world: World, position: int) -> int:
        """Count the rows among 0 … position-1 of an epoch that belong to a rank."""
        owned = len(self.streams_of(world))
        elements, rest = divmod(position, self.stream_count)
        # Of the current element, the streams below `rest` have had their turn.
        begun = len(range(world.rank, rest, world.size))
        return elements * owned + begun

    def stream_rows(self, stream: int) -> int:
        """Return the rows of a stream; no two streams differ by more than one."""
        rows, longer = divmod(self.rows, self.stream_count)
        return rows + (1 if stream < longer else 0)

    def batches(self, batch: int, position: int = 0) -> Iterator[GlobalBatch]:
        """Yield the global batches from `position` to the epoch's end; the first and the last may be partial."""
        while position < self.rows:
            last = min(self.rows, (position // batch + 1) * batch)
            yield GlobalBatch(position, last)
            position = last

    def steps(self, batch: int) -> int:
        """Return the global batches in an epoch, the same number for all ranks."""
        return -(-self.rows // batch)


@dataclass(frozen=True)
class _Cut:
    """Segments of all streams, stream after stream: (segments,) each, int64."""

    row_group: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    element: npt.NDArray[np.int64]
    """Place of a segment's first row in its stream."""
    begins: npt.NDArray[np.int64]
    """(S + 1,): the first segment of each stream, then the number of segments."""


@dataclass(frozen=True)
class EpochOrder:
    """Order of one epoch of a split; it holds a few dozen bytes per row group, however many rows that has."""

    split: SplitOrder
    epoch: int

    def _permutation(self, count: int, *key: str | int) -> npt.NDArray[np.int64]:
        return permutation(count, self.split.root, self.split.seed, self.epoch, *key)

    @cached_property
    def _cut(self) -> _Cut:
        """Permute the row groups, lay them end to end, and cut them into streams."""
        split = self.split
        laid = self._permutation(len(split.row_groups), "row groups")
        sizes = np.asarray(split.row_groups, dtype=np.int64)[laid]
        ends = np.cumsum(sizes)
        rows, longer = divmod(split.rows, split.stream_count)
        numbers = np.arange(split.stream_count + 1)
        streams = numbers * rows + np.minimum(numbers, longer)
        # Segments lie between adjacent edges: ends of row groups and beginnings of streams, which may coincide.
        edges = np.union1d(streams, ends)
        begin, end = edges[:-1], edges[1:]
        place = np.searchsorted(ends, begin, side="right")
        before = ends[place] - sizes[place]
        own_stream = np.searchsorted(streams, begin, side="right") - 1
        return _Cut(
            row_group=laid[place],
            first=begin - before,
            last=end - before,
            element=begin - streams[own_stream],
            begins=np.searchsorted(edges, streams),
        )

    def _segments(self, begin: int, end: int) -> tuple[Segment, ...]:
        columns = (self._cut.row_group, self._cut.first, self._cut.last)
        return tuple(map(Segment, *(column[begin:end].tolist() for column in columns)))

    def segments(self, stream: int) -> tuple[Segment, ...]:
        """Return the parts of row groups that make up a stream; a row group divided by a cut is in two streams."""
        return self._segments(*self._cut.begins[stream : stream + 2].tolist())

    def places(self, stream: int) -> npt.NDArray[np.int64]:
        """Return the windows of a stream as numbers, from which `window` makes them: shape (windows, 6), dtype int64.

        Each row is stream, index, first element, element after the last, first segment, segment after the last. The
        first windows of the streams differ in length, so that not all streams need their next row groups at the same
        step.
        """
        begin, end = self._cut.begins[stream : stream + 2].tolist()
        width = self.split.window
        length = max(1, width - stream * width // self.split.stream_count)
        begins = [begin, *range(begin + length, end, width)] if begin < end else []
        found = np.zeros((len(begins), 6), dtype=np.int64)
        found[:, 0], found[:, 1] = stream, np.arange(len(begins))
        found[:, 2], found[:, 4] = self._cut.element[begins], begins
        found[:-1, 3], found[:-1, 5] = found[1:, 2], found[1:, 4]
        found[-1:, 3], found[-1:, 5] = self.split.stream_rows(stream), end
        return found

    def window(self, place: npt.NDArray[np.int64]) -> Window:
        """Return the window that a row of `places` describes."""
        stream, index, first, after, begin, end = place.tolist()
        return Window(stream, index, first, after - first, self._segments(begin, end))

    def windows(self, stream: int) -> list[Window]:
        """Return the windows of a stream, in the order in which they are read."""
        return [self.window(place) for place in self.places(stream)]

    def shuffled(self, window: Window) -> npt.NDArray[np.int64]:
        """Return, for each element, its row in the window (with segments laid end to end); shape (rows,), int64."""
        return self._permutation(window.rows, "window", window.stream, window.index)

    def stream_contents(self, stream: int) -> npt.NDArray[np.int64]:
        """Return a whole stream, element by element: shape (elements, 2) of row group and row in it, dtype int64."""
        parts = [np.zeros((0, 2), dtype=np.int64)]
        for window in self.windows(stream):
            rows = [
                np.stack([np.full(s.last - s.first, s.row_group), np.arange(s.first, s.last)], axis=1)
                for s in window.segments
            ]
            parts.append(np.concatenate(rows)[self.shuffled(window)])
        return np.concatenate(parts)

    def all_rows(self) -> npt.NDArray[np.int64]:
        """Return the epoch by global position, for audits: shape (N, 2) of row group and row in it, dtype int64."""
        out = np.zeros((self.split.rows, 2), dtype=np.int64)
        for stream in range(self.split.stream_count):
            out[stream :: self.split.stream_count] = self.stream_contents(stream)
        return out


@dataclass(frozen=True)
class ReadingOrder:
    """Windows in the order in which they are needed; each is made on its turn, and iteration can be repeated."""

    epoch: EpochOrder
    places: npt.NDArray[np.int64]
    """(windows, 6), as in `EpochOrder.places`."""

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Window]:
        return map(self.epoch.window, self.places)


def reading_order(order: EpochOrder, world: World, position: int = 0) -> ReadingOrder:
    """Return the windows that a rank needs from `position` on, in the order in which it needs them."""
    owned = order.split.streams_of(world)
    places = np.concatenate([np.zeros((0, 6), dtype=np.int64), *map(order.places, owned)])
    begun = order.split.local_rows(world, position)
    if begun == order.split.local_rows(world, order.split.rows):
        places = places[
            :0
        ]  # the rank has had its share of the last element, though its windows do not end before it
    elif owned:
        element = begun // len(owned)
        places = places[places[:, 3] > element]
        places = places[np.lexsort((places[:, 0], places[:, 2]))]
    return ReadingOrder(order, places)


def row_groups_of(splits: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Concatenate the row groups of all shards of a split."""
    return tuple(rows for shard in splits for rows in shard)
