"""Wide rows: read from the file into their places, as exactly and as safely as all others."""

import itertools
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from common.errors import DataError
from schemas.manifest import WIDE_ROW, Manifest
from schemas.settings import Train
from tests.training.published import Published, publish
from training.input import buffers, petastorm_reader, wide_rows
from training.input.batch_loader import BatchLoader, columns_of, read_need, split_order
from training.input.columns import is_wide
from training.input.wide_rows import read_rows, stored_at
from training.parallel.world import World

LENGTH = WIDE_ROW // 4
SHARDS = ((7, 7, 7, 3), (1, 7, 7, 2), (7, 5))


@pytest.fixture(scope="module", params=["", 'policy = "oversample"\nmost = 5'], ids=["once", "repeated"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("wide")
    chances = (0.65, 0.3, 0.05) if request.param else None
    return publish(root, train=SHARDS, length=LENGTH, dtype="int32", balance=request.param, chances=chances)


@pytest.fixture(scope="module")
def manifest(published: Published) -> Manifest:
    return published.load()


@pytest.fixture(params=["from the file", "through pyarrow"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "through pyarrow":
        monkeypatch.setattr(petastorm_reader, "stored_at", lambda *_: None)
    return str(request.param)


def settings(**values: object) -> Train:
    return Train.model_validate({"streams": 4, "window": 2, "batch": 16, "workers": 2, **values})


def rows_of(manifest: Manifest) -> list[tuple[bytes, npt.NDArray[np.int32]]]:
    """Return key and tokens of each row as an epoch takes it, row group by row group, from pyarrow alone."""
    split, found = manifest.splits["train"], []
    taken = list(split.balance.repeats.values()) if split.balance.repeats else None
    for shard in split.shards:
        for row in pq.ParquetFile(manifest.shard_uri(shard)).read().to_pylist():
            times = 1 if taken is None else split.balance.repeats[manifest.classes()[row["label_index"]]]
            found += [(row["record_key"], np.frombuffer(row["tokens"], dtype="<i4"))] * times
    return found


def expected(manifest: Manifest, train: Train, epoch: int) -> list[tuple[bytes, npt.NDArray[np.int32]]]:
    order, rows = split_order(manifest, "train", train), rows_of(manifest)
    starts = [0, *itertools.accumulate(order.row_groups)]
    return [rows[starts[group] + row] for group, row in order.epoch(epoch).all_rows().tolist()]


@pytest.mark.usefixtures("way")
def test_each_row_is_in_its_place(manifest: Manifest) -> None:
    rows = manifest.splits["train"].epoch_rows
    for streams, window, batch, position in itertools.product((1, 4), (1, 3), (4, 5, 200), (0, 23, rows + 4)):
        train = settings(streams=streams, window=window, batch=batch)
        whole = expected(manifest, train, 0) + expected(manifest, train, 1)
        with BatchLoader(manifest, "train", train, World(0, 1), epochs=2, position=position) as loader:
            at = position
            for found in loader:
                for key, tokens in zip(found.keys, found.features["tokens"].numpy(), strict=True):
                    assert key.tobytes() == whole[at][0]
                    assert np.array_equal(tokens, whole[at][1])
                    at += 1
        assert at == 2 * rows


@pytest.mark.usefixtures("way")
def test_two_ranks_share_the_rows(manifest: Manifest) -> None:
    train, values = settings(batch=6), dict(rows_of(manifest))
    found = []
    for rank in range(2):
        with BatchLoader(manifest, "train", train, World(rank, 2)) as loader:
            for batch in loader:
                for key, tokens in zip(batch.keys, batch.features["tokens"].numpy(), strict=True):
                    assert np.array_equal(tokens, values[key.tobytes()])
                    found.append(key.tobytes())
    assert sorted(found) == sorted(key for key, _ in rows_of(manifest))


def test_they_are_stored_as_they_are_and_read_past_pyarrow(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(*arguments: object) -> object:
        calls.append(arguments)
        return read_rows(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(wide_rows, "read_rows", counted)
    with BatchLoader(manifest, "train", settings(), World(0, 1)) as loader:
        list(loader)
    # Which rows are taken several times is known only after their labels are checked.
    assert bool(calls) == (manifest.splits["train"].balance.repeats == {})


@pytest.mark.usefixtures("way")
def test_batches_that_are_held_keep_their_rows(manifest: Manifest) -> None:
    with BatchLoader(manifest, "train", settings(batch=8), World(0, 1), epochs=10) as loader:
        held = [(batch, batch.features["tokens"].clone()) for batch in loader]
    assert all((batch.features["tokens"] == copy).all() for batch, copy in held)


class Held:
    """Bytes of the wide blocks that exist, and the most that did at a time."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def empty(self, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
        found = np.empty(shape, dtype)
        if found[:1].nbytes >= WIDE_ROW:
            self.now += found.nbytes
            self.most = max(self.most, self.now)
            weakref.finalize(found, self.freed, found.nbytes)
        return found

    def freed(self, size: int) -> None:
        self.now -= size


@pytest.mark.parametrize(
    ("train", "balance", "epochs"),
    [(SHARDS, "", 6), (((50, 50), (50, 50)), 'policy = "oversample"\nmost = 20', 3), (((6,),), "", 60)],
    ids=["once", "repeated", "short epochs"],
)
def test_memory_stays_within_what_is_computed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    train: Sequence[Sequence[int]],
    balance: str,
    epochs: int,
) -> None:
    chances = (0.94, 0.03, 0.03) if balance else None
    published = publish(tmp_path, train=train, length=LENGTH, dtype="int32", balance=balance, chances=chances)
    manifest, closest = published.load(), 0.0
    for streams, window, batch in itertools.product((1, 3), (1, 4), (4, 64)):
        held, values = Held(), settings(streams=streams, window=window, batch=batch)
        monkeypatch.setattr(buffers, "np", SimpleNamespace(empty=held.empty))
        with BatchLoader(manifest, "train", values, World(0, 1), epochs=epochs) as loader:
            for _ in loader:
                pass
        need = read_need(manifest, "train", values, World(0, 1))
        limit = need.wide_blocks * need.wide_rows * WIDE_ROW
        assert 0 < held.most <= limit
        closest = max(closest, held.most / limit)
    # A bound that is far from everything would say nothing.
    assert closest > 0.3


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("damage", ["changed", "ends early"])
def test_damage_is_named(tmp_path: Path, damage: str) -> None:
    published = publish(tmp_path, train=SHARDS, length=LENGTH, dtype="int32")
    manifest, shard = published.load(), published.shard()
    (column,) = (one for one in columns_of(manifest) if is_wide(one))
    metadata = pq.read_metadata(shard)
    offset = stored_at(metadata, 2, column)
    assert offset is not None
    content = bytearray(shard.read_bytes())
    if damage == "changed":
        content[offset + 5 * WIDE_ROW] ^= 1
        message = r"row group 2 of .* has changed since it was published"
    else:
        # The footer of the file as it was, so that its rows lie beyond the end.
        del content[offset : offset + 6 * WIDE_ROW]
        message = r"(row group \d|shard) of? ?.*(cannot be read|changed)"
    shard.write_bytes(content)
    with (
        pytest.raises(DataError, match=message),
        BatchLoader(manifest, "train", settings(), World(0, 1)) as loader,
    ):
        list(loader)


def test_a_file_that_ends_early_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    file.write_bytes(bytes(range(10)))
    rows = [np.zeros(4, dtype=np.uint8) for _ in range(3)]
    with pytest.raises(OSError, match="the file ends within the row group"):
        list(read_rows(str(file), 0, rows))
    list(read_rows(str(file), 2, rows[:2]))
    assert [row.tolist() for row in rows[:2]] == [[2, 3, 4, 5], [6, 7, 8, 9]]


def test_more_rows_than_a_system_call_takes_and_short_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, real = tmp_path / "rows", os.preadv
    values = np.random.default_rng(0).integers(0, 256, (1500, 7), dtype=np.uint8)
    values.tofile(file)

    def short(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        return real(descriptor, [buffers[0][:5]] if offset % 2 else buffers[:3], offset)

    monkeypatch.setattr(os, "preadv", short)
    found = np.zeros_like(values)
    assert len(list(read_rows(str(file), 0, list(found)))) == 1500
    assert np.array_equal(found, values)
