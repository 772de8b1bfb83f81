"""The order of rows: exactly once, the same batches for every number of ranks, any position resumable."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import UsageError
from training.order import EpochOrder, SplitOrder, World, permutation, reading_order

ROW_GROUPS = [(1,), (5,), (3, 3, 3), (4, 4, 4, 1), (7, 1, 7, 2, 7), (2,) * 11, (32, 32, 9, 32, 32, 1)]


def order_of(row_groups: tuple[int, ...], streams: int, window: int, seed: int = 0) -> SplitOrder:
    return SplitOrder(row_groups, streams, window, "root", seed)


def every_row(row_groups: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(group, row) for group, rows in enumerate(row_groups) for row in range(rows)]


def local_sequence(epoch: EpochOrder, world: World) -> list[tuple[int, int, int]]:
    """What a rank would read by following its windows: (global position, row group, row), in the order of positions."""
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
        for size in range(1, order.stream_count + 3):  # more ranks than streams too: some own none
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
            # No more is read than the element that is begun asks for.
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
    # Written down once; a change would put a resumed training on another order without a word.
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
    # A batch of 64 from 8 streams with windows of 4 row groups can meet 32 and more of them.
    assert np.mean(groups_in_batch) > 16


def test_more_ranks_than_streams_are_refused_with_the_remedy() -> None:
    order = order_of((4, 4, 4), 64, 2)
    order.check_world(World(2, 3))
    with pytest.raises(UsageError, match=r"4 ranks cannot share 3 streams.*rows_per_group"):
        order.check_world(World(0, 4))


def test_an_empty_split_has_no_batches() -> None:
    order = order_of((), 64, 2)
    assert list(order.batches(16)) == []
    assert order.local_rows(World(0, 1), 0) == 0


def test_a_world_has_to_hold_its_rank() -> None:
    with pytest.raises(ValueError, match="rank 2"):
        World(2, 2)
