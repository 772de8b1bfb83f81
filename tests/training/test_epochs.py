"""A thousand epochs through the real reader: no row lost, none twice, whatever the workers and ranks."""

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from provenance.keys import record_key
from schemas.manifest import Manifest
from schemas.settings import Train
from tests.training.published import publish, record_ids
from training.input.batch_loader import BatchLoader, split_order
from training.parallel.world import World

EPOCHS = 1000
SHARDS = ((1, 9, 2, 5), (3, 3, 7), (8, 1, 4, 6, 2))
BATCH = 16


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Publish 12 row groups of 1 to 9 rows in three files."""
    root: Path = tmp_path_factory.mktemp("published")
    return publish(root, train=SHARDS, length=4).load()


@functools.cache
def numbers_by_key() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Return the first halves of all record keys in ascending order, and the row number in the files for each."""
    ids = [one for number, groups in enumerate(SHARDS) for one in record_ids("train", number, sum(groups))]
    halves = np.array([int.from_bytes(record_key(one)[:8], "little") for one in ids], dtype=np.uint64)
    places = np.argsort(halves)
    return halves[places], places


def numbers_of(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Return the numbers of the rows with these keys; fail on a key that no row has."""
    halves, places = numbers_by_key()
    at = np.minimum(np.searchsorted(halves, keys[:, 0]), len(halves) - 1)
    assert (halves[at] == keys[:, 0]).all()
    found: npt.NDArray[np.int64] = places[at]
    return found


@pytest.fixture(scope="module")
def expected(manifest: Manifest) -> npt.NDArray[np.int64]:
    """Return (epochs, rows): the number of the global batch that each row of the files belongs to."""
    order = split_order(manifest, "train", settings())
    begins = np.concatenate([[0], np.cumsum(order.row_groups)])
    batches = np.zeros((EPOCHS, order.rows), dtype=np.int64)
    for epoch in range(EPOCHS):
        groups, rows = order.epoch(epoch).all_rows().T
        batches[epoch, begins[groups] + rows] = np.arange(order.rows) // BATCH
    return batches


def settings(workers: int = 1) -> Train:
    return Train.model_validate({"streams": 4, "window": 2, "batch": BATCH, "workers": workers})


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("ranks", "workers"), [(1, 2), (1, 4), (2, 3), (3, 1)])
def test_no_row_is_lost_and_none_comes_twice(
    manifest: Manifest, expected: npt.NDArray[np.int64], ranks: int, workers: int
) -> None:
    batches = np.full_like(expected, -1)
    rows = 0
    for rank in range(ranks):
        steps = 0
        with BatchLoader(manifest, "train", settings(workers), World(rank, ranks), epochs=EPOCHS) as loader:
            for batch in loader:
                numbers = numbers_of(batch.keys)
                assert (batches[batch.epoch, numbers] == -1).all()
                batches[batch.epoch, numbers] = steps % loader.order.steps(BATCH)
                rows, steps = rows + batch.rows, steps + 1
        assert steps == EPOCHS * loader.order.steps(BATCH)
    assert rows == expected.size
    assert (batches == expected).all()
