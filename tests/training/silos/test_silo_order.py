"""Silos read each of their rows once an epoch, wherever they are, and a step holds the same rows on any ranks."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from common.errors import UsageError
from schemas.manifest import Manifest
from schemas.methods.federated import Federated
from schemas.settings import Train
from tests.training.published import publish, record_ids
from training.batches import batches
from training.input.batch_loader import BatchLoader
from training.parallel.world import World
from training.silos.loading import SiloLoader, loader_of, order_of
from training.silos.order import SiloOrder, owner, silos_of

SHARDS = ((9, 4), (3, 3, 7), (5,), (8, 1, 4, 6, 2))
ROWS = [13, 13, 5, 21]
METHOD = Federated()
SETTINGS = Train.model_validate({"streams": 4, "window": 2, "batch": 4, "workers": 1})


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return publish(tmp_path_factory.mktemp("published"), train=SHARDS, length=4).load()


def order(manifest: Manifest) -> SiloOrder:
    found = order_of(manifest, METHOD, SETTINGS)
    assert isinstance(found, SiloOrder)
    return found


def steps_of(
    manifest: Manifest, ranks: int, epochs: int = 1, position: int = 0
) -> list[tuple[int, int, dict[int, list[str]]]]:
    """Return of each step its position, its rows over all ranks, and the records of each silo."""
    found: list[tuple[int, int, dict[int, list[str]]]] = []
    for rank in range(ranks):
        loader = loader_of(manifest, METHOD, SETTINGS, World(rank, ranks), epochs, position, with_ids=True)
        with loader:
            for number, batch in enumerate(loader):
                assert batch.record_ids is not None
                assert batch.rows == len(batch.record_ids) == sum(rows for _, rows in batch.silos)
                if rank == 0:
                    found.append((batch.position, batch.global_rows, {}))
                assert found[number][:2] == (batch.position, batch.global_rows)
                first = 0
                for silo, rows in batch.silos:
                    assert owner(silo, ranks) == rank
                    found[number][2][silo] = batch.record_ids[first : first + rows].tolist()
                    first += rows
    return found


def test_each_shard_is_a_silo(manifest: Manifest) -> None:
    silos = silos_of(manifest, "shard")
    assert [silo.rows for silo in silos] == ROWS
    assert len({silo.root for silo in silos}) == 4


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_a_step_has_a_local_batch_of_every_silo_that_still_has_one(manifest: Manifest, ranks: int) -> None:
    steps = steps_of(manifest, ranks, epochs=2)
    assert len(steps) == 2 * 6
    for epoch in range(2):
        read = Counter[str]()
        for step, (position, rows, parts) in enumerate(steps[6 * epoch : 6 * epoch + 6]):
            taken = {n: max(0, min(4, size - 4 * step)) for n, size in enumerate(ROWS)}
            assert {silo: len(ids) for silo, ids in parts.items()} == {n: t for n, t in taken.items() if t}
            assert rows == sum(taken.values())
            assert position == 52 * epoch + sum(min(size, 4 * step + 4) for size in ROWS)
            for silo, ids in parts.items():
                assert set(ids) <= set(record_ids("train", silo, ROWS[silo]))
                read.update(ids)
        assert read == Counter(one for n, size in enumerate(ROWS) for one in record_ids("train", n, size))
    assert steps[:6] != steps[6:]


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_steps_are_the_same_on_any_ranks_and_from_any_position(manifest: Manifest, ranks: int) -> None:
    whole = steps_of(manifest, 1, epochs=2)
    assert steps_of(manifest, ranks, epochs=2) == whole
    for done in (1, 4, 6, 9):
        assert steps_of(manifest, ranks, epochs=2, position=whole[done - 1][0]) == whole[done:]


def test_positions_and_steps_belong_together(manifest: Manifest) -> None:
    made = order(manifest)
    for step in range(made.steps(4) + 1):
        assert made.step_at(made.after(step, 4), 4) == step
    with pytest.raises(UsageError, match="no step of the silos begins at row 17"):
        made.step_at(17, 4)


def test_the_audit_shows_what_the_ranks_read(manifest: Manifest) -> None:
    steps = steps_of(manifest, 1)
    for ranks in (1, 2):
        shown = list(batches(manifest, "train", SETTINGS, 0, ranks=ranks, method=METHOD))
        assert [line["batch"] for line in shown] == list(range(6))
        for line, (_, _, parts) in zip(shown, steps, strict=True):
            assert line["record_ids"] == [one for silo in sorted(parts) for one in parts[silo]]
    of_one = list(batches(manifest, "train", SETTINGS, 0, ranks=2, rank=1, method=METHOD))
    assert of_one[0]["record_ids"] == [*steps[0][2][1], *steps[0][2][3]]


def test_a_silo_alone_reads_as_plain_training_does(tmp_path: Path) -> None:
    manifest = publish(tmp_path, train=((9, 4, 8),), length=4).load()
    world = World(0, 1)
    with (
        loader_of(manifest, METHOD, SETTINGS, world) as of_silos,
        BatchLoader(manifest, "train", SETTINGS, world) as plain,
    ):
        for ours, theirs in zip(of_silos, plain, strict=True):
            np.testing.assert_array_equal(ours.keys, theirs.keys)
            assert ours.position == theirs.position


def test_more_ranks_than_silos_are_refused(manifest: Manifest) -> None:
    order(manifest).check_world(World(0, 4))
    with pytest.raises(UsageError, match="5 ranks cannot share 4 silos"):
        order(manifest).check_world(World(0, 5))


def test_shards_of_several_groups_are_no_silos_by_group(manifest: Manifest) -> None:
    with pytest.raises(UsageError, match=r"set publish\.by_group = true"):
        silos_of(manifest, "group")


def test_the_readers_of_a_rank_are_those_of_its_silos(manifest: Manifest) -> None:
    with loader_of(manifest, METHOD, SETTINGS, World(1, 2)) as loader:
        assert isinstance(loader, SiloLoader)
        assert [silo.number for silo in loader.silos] == [1, 3]
        for silo, reader in zip(loader.silos, loader.loaders, strict=True):
            assert reader.reader is not None
            assert reader.reader.files.locations == tuple(manifest.shard_uri(one) for one in silo.shards)
