"""The order of rows: exactly once, the same batches for every number of ranks, any position resumable."""

import hashlib
import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UsageError
from training.input.order import EpochOrder, SplitOrder, permutation, reading_order
from training.parallel.world import World

ROW_GROUPS = [(1,), (5,), (3, 3, 3), (4, 4, 4, 1), (7, 1, 7, 2, 7), (2,) * 11, (32, 32, 9, 32, 32, 1)]


def order_of(row_groups: tuple[int, ...], streams: int, window: int, seed: int = 0) -> SplitOrder:
    return SplitOrder(row_groups, streams, window, "root", seed)


def every_row(row_groups: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(group, row) for group, rows in enumerate(row_groups) for row in range(rows)]


def local_sequence(epoch: EpochOrder, world: World) -> list[tuple[int, int, int]]:
    """Return (global position, row group, row) as a rank reads them by its windows, in the order of positions."""
    streams = epoch.split.stream_count
    found = []
    for window in reading_order(epoch, world):
        rows = [(s.row_group, row) for s in window.segments for row in range(s.first, s.last)]
        for element, chosen in enumerate(epoch.shuffled(window)):
            position = (window.first + element) * streams + window.stream
            found.append((position, *rows[chosen]))
    return sorted(found)


@pytest.mark.parametrize("row_groups", ROW_GROUPS)
def test_every_row_exactly_once_for_all_ranks_streams_and_windows(row_groups: tuple[int, ...]) -> None:
    for streams, window, seed in itertools.product((1, 2, 3, 5, 64), (1, 2, 4, 100), (0, 1)):
        order = order_of(row_groups, streams, window, seed)
        whole = [tuple(row) for row in order.epoch(3).all_rows().tolist()]
        assert sorted(whole) == every_row(row_groups)
        for size in range(1, order.stream_count + 1):
            parts = [local_sequence(order.epoch(3), World(rank, size)) for rank in range(size)]
            together = sorted(itertools.chain.from_iterable(parts))
            assert [row[1:] for row in together] == whole
            assert [row[0] for row in together] == list(range(order.rows))


@pytest.mark.parametrize("row_groups", ROW_GROUPS)
def test_local_rows_counts_the_rows_before_a_position(row_groups: tuple[int, ...]) -> None:
    for streams in (1, 2, 3, 5, 64):
        order = order_of(row_groups, streams, 2)
        for size in range(1, order.stream_count + 3):  # also more ranks than streams, some of which own none
            for rank in range(size):
                world = World(rank, size)
                owned = set(order.streams_of(world))
                counts = [
                    sum(p % order.stream_count in owned for p in range(n)) for n in range(order.rows + 1)
                ]
                assert [order.local_rows(world, n) for n in range(order.rows + 1)] == counts


@settings(max_examples=300, deadline=None)
@given(
    row_groups=st.lists(st.integers(1, 40), min_size=1, max_size=12).map(tuple),
    streams=st.integers(1, 16),
    window=st.integers(1, 6),
    batch=st.integers(1, 70),
    data=st.data(),
)
def test_batches_are_the_same_rows_for_every_world_and_from_every_position(
    row_groups: tuple[int, ...], streams: int, window: int, batch: int, data: st.DataObject
) -> None:
    order = order_of(row_groups, streams, window)
    epoch = order.epoch(data.draw(st.integers(0, 5)))
    whole = [tuple(row) for row in epoch.all_rows().tolist()]
    batches = list(order.batches(batch))
    assert len(batches) == order.steps(batch)
    assert [b.first for b in batches] == list(range(0, order.rows, batch))
    assert sum(b.rows for b in batches) == order.rows
    size = data.draw(st.integers(1, order.stream_count))
    sequences = [[row for _, *row in local_sequence(epoch, World(rank, size))] for rank in range(size)]
    for one in batches:
        rows = []
        for rank in range(size):
            world = World(rank, size)
            first, last = order.local_rows(world, one.first), order.local_rows(world, one.last)
            rows += [tuple(row) for row in sequences[rank][first:last]]
        assert sorted(rows) == sorted(whole[one.first : one.last])
    position = data.draw(st.integers(0, order.rows))
    rest = list(order.batches(batch, position))
    assert [b.last for b in rest] == [b.last for b in batches if b.last > position]
    assert sum(b.rows for b in rest) == order.rows - position


def test_windows_left_out_on_resume_are_those_that_were_used_up() -> None:
    order = order_of((8,) * 12, 4, 2)
    epoch = order.epoch(0)
    for size, position in itertools.product((1, 2, 3, 4), range(0, order.rows, 7)):
        for rank in range(size):
            world = World(rank, size)
            kept = reading_order(epoch, world, position)
            needed = {
                (window.stream, window.index)
                for window in reading_order(epoch, world)
                for element in range(window.first, window.end)
                if element * 4 + window.stream >= position
            }
            assert needed <= {(window.stream, window.index) for window in kept}
            # No more is read than the current element asks for.
            element = order.local_rows(world, position) // len(order.streams_of(world))
            assert all(window.end > element for window in kept)


def test_epochs_seeds_and_roots_differ_and_repeat_themselves() -> None:
    order = order_of((16,) * 20, 8, 4)
    again = order_of((16,) * 20, 8, 4)
    assert (order.epoch(1).all_rows() == again.epoch(1).all_rows()).all()
    others = [
        order.epoch(2),
        order_of((16,) * 20, 8, 4, seed=1).epoch(1),
        SplitOrder((16,) * 20, 8, 4, "another root", 0).epoch(1),
    ]
    for other in others:
        assert (order.epoch(1).all_rows() != other.all_rows()).any(axis=1).mean() > 0.9


def test_permutation_is_the_same_on_every_machine() -> None:
    # Recorded once; a change would silently give a resumed training another order.
    assert permutation(8, "root", 0, 1).tolist() == EXPECTED_PERMUTATION
    assert sorted(permutation(1000, "x").tolist()) == list(range(1000))
    assert len(permutation(0, "x")) == 0


EXPECTED_PERMUTATION = [5, 3, 7, 4, 2, 1, 6, 0]


def test_streams_differ_by_at_most_one_row_longer_first() -> None:
    for row_groups, streams in itertools.product(ROW_GROUPS, (1, 2, 3, 7)):
        order = order_of(row_groups, streams, 2)
        lengths = [len(order.epoch(0).stream_contents(s)) for s in range(order.stream_count)]
        assert lengths == [order.stream_rows(s) for s in range(order.stream_count)]
        assert sorted(lengths, reverse=True) == lengths
        assert max(lengths) - min(lengths) <= 1
        assert sum(lengths) == order.rows


def test_rows_travel_across_row_groups() -> None:
    order = order_of((32,) * 64, 8, 4)
    rows = order.epoch(0).all_rows()
    groups_in_batch = [len(np.unique(rows[at : at + 64, 0])) for at in range(0, len(rows), 64)]
    # A batch of 64 from 8 streams with windows of 4 row groups can draw from 32 and more of them.
    assert np.mean(groups_in_batch) > 16


def test_more_ranks_than_streams_are_refused_with_the_remedy() -> None:
    order = order_of((100, 100, 56), 64, 2)
    order.check_world(World(2, 3))
    with pytest.raises(UsageError, match=r"4 ranks cannot share 3 streams.*rows_per_group"):
        order.check_world(World(0, 4))


def test_of_few_rows_some_ranks_may_have_none() -> None:
    order = order_of((1,), 4, 2)
    for world in (World(0, 1), World(1, 2), World(3, 4)):
        order.check_world(world)
    assert [order.idle_ranks(World(0, ranks)) for ranks in (1, 2, 4)] == [0, 1, 3]
    assert [order.local_rows(World(rank, 4), 1) for rank in range(4)] == [1, 0, 0, 0]
    with pytest.raises(UsageError, match="5 ranks cannot share 1 streams"):
        order.check_world(World(0, 5))  # more than train.streams


def test_an_empty_split_has_no_batches() -> None:
    order = order_of((), 64, 2)
    assert list(order.batches(16)) == []
    assert order.local_rows(World(0, 1), 0) == 0


def test_a_world_has_to_hold_its_rank() -> None:
    with pytest.raises(ValueError, match="rank 2"):
        World(2, 2)


def sizes_of(kind: str, groups: int, rows: int) -> tuple[int, ...]:
    """Return typical sizes of row groups: all equal, all equal but a short last, or of any size from 1 on."""
    if kind == "uneven":
        return tuple(int(size) for size in np.random.default_rng(groups * rows).integers(1, rows + 1, groups))
    return (rows,) * (groups - 1) + (rows if kind == "even" else 1,)


@dataclass(frozen=True)
class Job:
    """An epoch as the ranks of a job read it."""

    epoch: EpochOrder
    size: int
    position: int = 0

    @cached_property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Number of the first row of each row group, with all rows numbered in the order of the files."""
        return np.concatenate([[0], np.cumsum(self.epoch.split.row_groups)])

    @cached_property
    def local(self) -> list[npt.NDArray[np.int64]]:
        """Numbers, by rank, of the rows from `position` on, in local order, assembled window by window."""
        order, found = self.epoch.split, []
        for world in (World(rank, self.size) for rank in range(self.size)):
            positions, numbers = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
            for window in reading_order(self.epoch, world, self.position):
                parts = [np.arange(s.first, s.last) + self.numbers[s.row_group] for s in window.segments]
                numbers.append(np.concatenate(parts)[self.epoch.shuffled(window)])
                elements = np.arange(window.first, window.end)
                positions.append(elements * order.stream_count + window.stream)
            at, rows = np.concatenate(positions), np.concatenate(numbers)
            later = at >= self.position
            found.append(rows[later][np.argsort(at[later])])
        return found

    def batches(self, batch: int) -> list[list[int]]:
        """Return the rows of each remaining global batch, collected from all ranks by counting local rows."""
        order = self.epoch.split
        worlds = [World(rank, self.size) for rank in range(self.size)]
        before = [order.local_rows(world, self.position) for world in worlds]
        found = []
        for one in order.batches(batch, self.position):
            cuts = [(order.local_rows(w, one.first), order.local_rows(w, one.last)) for w in worlds]
            parts = [
                rows[first - skipped : last - skipped]
                for rows, (first, last), skipped in zip(self.local, cuts, before, strict=True)
            ]
            found.append(sorted(np.concatenate(parts).tolist()))
        return found


def ranks_for(streams: int) -> list[int]:
    """Return numbers of ranks to try: all for up to 6 streams; for more, some that divide them and some that do not."""
    return [size for size in range(1, streams + 1) if streams <= 6 or size in (1, 2, 3, 5, 7, streams)]


@pytest.mark.parametrize("kind", ["even", "short last", "uneven"])
def test_over_a_grid_each_job_has_the_same_batches_from_every_position(kind: str) -> None:
    """Ranks × streams × batch × rows × row groups × window × position, against one rank's uninterrupted epoch."""
    combinations = 0
    shapes = [(1, 1), (1, 9), (2, 1), (3, 5), (7, 4), (12, 9), (40, 3)]
    for (groups, rows), streams, window in itertools.product(shapes, (1, 2, 5, 64), (1, 3, 1000)):
        order = order_of(sizes_of(kind, groups, rows), streams, window, seed=groups)
        epoch = order.epoch(window)
        whole = Job(epoch, 1).local[0]
        assert sorted(whole.tolist()) == list(range(order.rows))
        positions = {0, 1, order.rows // 3, order.rows - 1, order.rows}
        for size, position in itertools.product(ranks_for(order.stream_count), positions):
            job = Job(epoch, size, position)
            assert sum(map(len, job.local)) == order.rows - position
            for batch in (1, 4, 16, 1000):
                uninterrupted = [
                    sorted(whole[max(first, position) : first + batch].tolist())
                    for first in range(position // batch * batch, order.rows, batch)
                    if max(first, position) < order.rows
                ]
                found = job.batches(batch)
                assert found == uninterrupted
                left = order.steps(batch) - position // batch if position < order.rows else 0
                assert len(found) == left
                combinations += 1
    assert combinations > 3000


@pytest.mark.parametrize("kind", ["even", "short last", "uneven"])
def test_over_a_grid_rows_are_taken_exactly_as_often_as_they_should(kind: str) -> None:
    """The order of row groups from which some rows are taken several times, before and after each resumption."""
    combinations = 0
    for (groups, rows), streams, window in itertools.product(
        [(1, 9), (3, 5), (12, 9)], (1, 3, 64), (1, 2, 1000)
    ):
        stored = sizes_of(kind, groups, rows)
        times = np.random.default_rng(groups).choice([1, 1, 1, 2, 7], sum(stored))
        ends = np.cumsum(stored)
        taken = [int(times[end - size : end].sum()) for size, end in zip(stored, ends, strict=True)]
        # Row in the files, for each row as it is taken.
        source = np.repeat(np.arange(len(times)), times)
        epoch = order_of(tuple(taken), streams, window).epoch(2)
        assert epoch.split.rows == times.sum()
        whole = source[Job(epoch, 1).local[0]]
        for size, position in itertools.product(
            ranks_for(epoch.split.stream_count), (0, 1, epoch.split.rows // 2, epoch.split.rows)
        ):
            later = source[np.concatenate(Job(epoch, size, position).local)]
            read = np.bincount(np.concatenate([whole[:position], later]), minlength=len(times))
            assert (read == times).all()
            combinations += 1
    assert combinations > 200


def test_another_order_each_epoch_and_every_seed_is_a_seed() -> None:
    row_groups, seeds = (3,) * 40, (0, 1, -1, 2**31, 2**63 - 1, -(2**80))
    orders = {}
    for seed, epoch in itertools.product(seeds, range(60)):
        rows = order_of(row_groups, 4, 2, seed).epoch(epoch).all_rows()
        assert len(np.unique(rows, axis=0)) == 120
        orders[rows.tobytes()] = (seed, epoch)
    assert len(orders) == 6 * 60


def test_windows_wider_than_a_stream_take_all_of_it() -> None:
    order = order_of((8,) * 20, 4, 10**30)
    assert [len(order.epoch(0).windows(stream)) for stream in range(4)] == [1] * 4


def test_the_reading_order_holds_nothing_that_grows_with_the_rows() -> None:
    held = []
    for rows in (4, 4_000_000):
        plan = reading_order(order_of((rows,) * 100, 8, 4).epoch(0), World(0, 1))
        held.append((len(plan), plan.places.nbytes))
        assert sum(window.rows for window in plan) == 100 * rows
    # Only the position of the cuts between streams may differ.
    assert abs(held[0][0] - held[1][0]) <= 8
    assert held[1][1] < 100 * 6 * 8


# Row groups, streams, window, seed, epoch, and the first half of the SHA-256 of the rows in their order. Recorded
# once, like the permutation above: if one changes, existing runs cannot be repeated.
PINNED = [
    ((512,) * 43 + (7,), 64, 4, 0, 0, "1744be5a6cc1414f77d060a5dc0092b2"),
    ((512,) * 43 + (7,), 64, 4, 0, 1, "43d4508479f925b60dbda91ba683344d"),
    ((512,) * 43 + (7,), 64, 4, -5, 0, "d6b215e02557575d56bad44645e6e96f"),
    ((9, 1, 30, 2, 2, 17, 8), 3, 2, 2**63 - 1, 7, "6c6b3f067806737913226c73d72bc891"),
    ((5,), 1, 1, 0, 0, "3f7360dab75f95dc75a3cf2c4a5c6f00"),
    ((100,) * 300, 8, 16, 3, 1000, "c4e0201bcbc9e27d5ffb21ce4d8d5931"),
]


@pytest.mark.parametrize(("row_groups", "streams", "window", "seed", "epoch", "digest"), PINNED)
def test_the_order_is_the_same_on_every_machine(
    row_groups: tuple[int, ...], streams: int, window: int, seed: int, epoch: int, digest: str
) -> None:
    rows = SplitOrder(row_groups, streams, window, "a1b2" * 16, seed).epoch(epoch).all_rows()
    assert hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()[:32] == digest
