"""Reading through Petastorm: planned row groups, nothing lost, nothing twice, errors that name their place."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from common.errors import DataError, UsageError
from etl.publication.balance import row_group_size
from provenance.keys import record_key
from schemas.manifest import FIXED, Column, Manifest, Shard
from schemas.settings import Publish, Train
from tests.training.published import Published, publish, record_ids
from training.input.batch_loader import BatchLoader, columns_of, split_order
from training.input.columns import SplitFiles, bundles_of, row_bytes, to_array
from training.input.memory import BLOCKS, check_memory, memory_need
from training.input.order import SplitOrder, reading_order
from training.input.petastorm_reader import PlannedReader
from training.input.wide_rows import Reading
from training.parallel.world import World

SHARDS = ((7, 7, 7, 3), (7, 7, 7, 2), (7, 5))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("published"), train=SHARDS)


@pytest.fixture(scope="module")
def manifest(published: Published) -> Manifest:
    return published.load()


def settings(**values: object) -> Train:
    return Train.model_validate({"streams": 4, "window": 2, "batch": 16, **values})


def ids_by_key() -> dict[bytes, str]:
    ids = [i for number, groups in enumerate(SHARDS) for i in record_ids("train", number, sum(groups))]
    return {record_key(one): one for one in ids}


def expected_ids(manifest: Manifest, train: Train, epoch: int) -> list[str]:
    """Return the ids of an epoch by global position, from the arithmetic alone."""
    by_group = []
    for number, groups in enumerate(SHARDS):
        ids = iter(record_ids("train", number, sum(groups)))
        by_group += [list(itertools.islice(ids, rows)) for rows in groups]
    order = split_order(manifest, "train", train).epoch(epoch)
    return [by_group[group][row] for group, row in order.all_rows().tolist()]


def read_ids(loader: BatchLoader) -> Iterator[tuple[int, list[str]]]:
    names = ids_by_key()
    for batch in loader:
        assert batch.rows == len(batch.keys) == len(batch.features["tokens"])
        yield batch.position, [names[key.tobytes()] for key in batch.keys]


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_hold_exactly_the_rows_of_the_order(manifest: Manifest, workers: int) -> None:
    rows = manifest.splits["train"].rows
    grid = itertools.product((1, 4, 64), (1, 3), (5, 16, 200), (1, 2, 3), (0, 23, rows, rows + 40))
    for streams, window, batch, size, position in grid:
        train = settings(streams=streams, window=window, batch=batch, workers=workers)
        if size > split_order(manifest, "train", train).stream_count:
            continue
        whole = expected_ids(manifest, train, 0) + expected_ids(manifest, train, 1)
        found: dict[int, list[str]] = {}
        for rank in range(size):
            with BatchLoader(
                manifest, "train", train, World(rank, size), epochs=2, position=position
            ) as loader:
                for at, ids in read_ids(loader):
                    found.setdefault(at, []).extend(ids)
        before = position
        for at in sorted(found):
            assert sorted(found[at]) == sorted(whole[before:at])
            before = at
        assert before == 2 * rows


def test_one_rank_reads_in_the_order_of_positions(manifest: Manifest) -> None:
    train = settings()
    with BatchLoader(manifest, "train", train, World(0, 1)) as loader:
        ids = [one for _, batch in read_ids(loader) for one in batch]
    assert ids == expected_ids(manifest, train, 0)


def test_many_epochs_of_small_row_groups_lose_nothing(tmp_path: Path) -> None:
    published = publish(tmp_path, train=((3,) * 6 + (1,), (3,) * 5 + (2,)))
    manifest = published.load()
    whole = manifest.splits["train"]
    for workers, epochs in ((1, 60), (2, 60), (4, 60)):
        train = settings(streams=5, window=2, batch=8, workers=workers)
        keys: list[npt.NDArray[np.uint64]] = []
        with BatchLoader(manifest, "train", train, World(0, 1), epochs=epochs) as loader:
            for batch in loader:
                keys.append(batch.keys)
        together = np.concatenate(keys)
        assert len(together) == epochs * whole.rows
        by_epoch = together.reshape(epochs, whole.rows, 2)
        for epoch in by_epoch:
            assert len(np.unique(epoch, axis=0)) == whole.rows
            assert tuple(int(s) for s in epoch.sum(axis=0, dtype=np.uint64)) == tuple(whole.key_sums)


def test_tensors_are_what_the_files_hold(published: Published, manifest: Manifest) -> None:
    rows = {}
    for number, shard in enumerate(manifest.splits["train"].shards):
        table = pq.read_table(published.shard("train", number))
        for row in table.to_pylist():
            rows[row["record_key"]] = (row["label_index"], np.frombuffer(row["tokens"], "<u2").tolist())
        assert table.num_rows == shard.rows
    with BatchLoader(manifest, "train", settings(), World(0, 1)) as loader:
        for batch in loader:
            assert batch.labels is not None
            assert str(batch.features["tokens"].dtype) == "torch.int32"
            assert str(batch.labels.dtype) == "torch.int64"
            for key, label, tokens in zip(
                batch.keys, batch.labels.tolist(), batch.features["tokens"].tolist(), strict=True
            ):
                assert rows.pop(key.tobytes()) == (label, tokens)
    assert not rows


def test_all_row_groups_pass_through_petastorm_and_no_more(manifest: Manifest) -> None:
    train = settings(streams=3, window=2)
    order = split_order(manifest, "train", train)
    for size in (1, 2, 3):
        for rank in range(size):
            with BatchLoader(manifest, "train", train, World(rank, size)) as loader:
                for _ in loader:
                    pass
                assert isinstance(loader.reader, PlannedReader)
                planned = sum(
                    len(window.segments) for window in reading_order(order.epoch(0), World(rank, size))
                )
                assert loader.reader.diagnostics["row_groups"] == planned
    # One rank reads each row group, and one again for each of the two cuts between three streams.
    total = len(order.row_groups)
    assert planned <= total
    with BatchLoader(manifest, "train", train, World(0, 1)) as loader:
        list(loader)
        assert loader.reader is not None
        assert total <= loader.reader.diagnostics["row_groups"] <= total + 2


def test_no_more_is_read_ahead_than_computed(published: Published, manifest: Manifest) -> None:
    files = SplitFiles.of(manifest, "train", columns_of(manifest))
    plan = [number % 10 for number in range(200)]
    reader = PlannedReader(files, map(Reading, plan), workers=2, ahead=4, together=3)
    try:
        next(reader)
        # Its task is still in hand; four more wait or are being read.
        assert (reader.pool.ventilated, reader.pool.taken) == (4, 1)
        next(reader), next(reader)
        assert (reader.pool.ventilated, reader.pool.taken) == (5, 1)
    finally:
        reader.stop()
        reader.join()


def test_memory_of_a_block_is_used_again_only_when_nobody_holds_it(manifest: Manifest) -> None:
    train = settings(batch=8)
    with BatchLoader(manifest, "train", train, World(0, 1), epochs=40) as loader:
        held = [(batch, batch.features["tokens"].clone()) for batch in loader]
    assert len(held) > 200
    for batch, tokens in held:
        assert torch.equal(batch.features["tokens"], tokens)
    addresses = []
    with BatchLoader(manifest, "train", train, World(0, 1), epochs=40) as loader:
        for batch in loader:
            addresses.append(batch.features["tokens"].untyped_storage().data_ptr())
    # At most one buffer more than blocks in progress, and those that join two blocks of a batch.
    assert len(set(addresses)) < len(addresses) / 2


@pytest.mark.parametrize("streams", [3, 4, 5])
def test_reading_goes_on_from_every_batch_on_every_rank(manifest: Manifest, streams: int) -> None:
    """Even if a rank has no row left in the epoch that it begins in."""
    batch = 9
    train = settings(streams=streams, batch=batch, workers=1)
    expected = expected_ids(manifest, train, 0) + expected_ids(manifest, train, 1)
    rows = manifest.splits["train"].rows
    starts = [*range(0, rows, batch), rows - 3, rows - 2, rows - 1, rows, rows + batch]
    for ranks in (2, 3):
        for start in starts:
            found: dict[int, list[str]] = {}
            for rank in range(ranks):
                with BatchLoader(
                    manifest, "train", train, World(rank, ranks), epochs=2, position=start
                ) as loader:
                    for position, ids in read_ids(loader):
                        found.setdefault(position, []).extend(ids)
            ends = sorted(found)
            for first, last in zip([start, *ends[:-1]], ends, strict=True):
                assert sorted(found[last]) == sorted(expected[first:last])
            assert ends[-1] == 2 * rows


def test_ids_come_on_request(manifest: Manifest) -> None:
    train = settings()
    names = ids_by_key()
    with BatchLoader(manifest, "train", train, World(0, 1), with_ids=True) as loader:
        for batch in loader:
            assert batch.record_ids is not None
            assert batch.record_ids.tolist() == [names[key.tobytes()] for key in batch.keys]


def test_ranks_without_rows_get_empty_batches(tmp_path: Path) -> None:
    manifest = publish(tmp_path, train=((2, 2),), validation=((3,),)).load()
    train = settings(batch=1)
    sizes = []
    for rank in range(2):
        with BatchLoader(manifest, "train", train, World(rank, 2)) as loader:
            sizes.append([(batch.rows, batch.global_rows) for batch in loader])
    assert [a[0] + b[0] for a, b in zip(*sizes, strict=True)] == [1, 1, 1, 1]
    assert {one for rank in sizes for one in rank} == {(0, 1), (1, 1)}
    # More ranks than streams: fine for validation, where the third has nothing to do.
    with BatchLoader(manifest, "validation", train, World(2, 3)) as loader:
        batches = list(loader)
    assert [(batch.rows, batch.features["tokens"].shape) for batch in batches] == [(0, (0, 16))] * 3


def copied(published: Published, folder: Path) -> tuple[Path, Manifest]:
    """Make a copy whose files may be damaged; return its table folder, and a manifest that points there."""
    table = folder / "shards"
    shutil.copytree(Path(published.load().table_uri), table)
    return table, published.load().model_copy(update={"table_uri": str(table)})


def read_all(manifest: Manifest, **values: object) -> None:
    with BatchLoader(manifest, "train", settings(**values), World(0, 1)) as loader:
        for _ in loader:
            pass


@pytest.mark.timeout(60)
@pytest.mark.parametrize("workers", [1, 4])
def test_a_damaged_row_group_is_named(published: Published, tmp_path: Path, workers: int) -> None:
    table, manifest = copied(published, tmp_path)
    shard = manifest.splits["train"].shards[1]
    file = table / shard.path
    content = bytearray(file.read_bytes())
    place = pq.ParquetFile(file).metadata.row_group(2).column(3)
    start = place.dictionary_page_offset or place.data_page_offset
    content[start : start + place.total_compressed_size] = b"\xff" * place.total_compressed_size
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"row group 2 of .*{shard.sha256}.*cannot be read"):
        read_all(manifest, workers=workers)


@pytest.mark.timeout(60)
def test_missing_and_foreign_files_are_named(published: Published, tmp_path: Path) -> None:
    table, manifest = copied(published, tmp_path)
    first, second = manifest.splits["train"].shards[:2]
    (table / first.path).write_bytes((table / second.path).read_bytes())
    other = "has changed since it was published|has 2 rows instead of 3"  # whichever is read first
    with pytest.raises(DataError, match=rf"row group \d of .*{first.sha256}.* ({other})"):
        read_all(manifest)
    (table / first.path).write_bytes((table / manifest.splits["train"].shards[2].path).read_bytes())
    with pytest.raises(DataError, match=rf"{first.sha256}.* has 2 row groups instead of 4"):
        read_all(manifest)
    (table / first.path).write_bytes(b"PAR1 is not enough PAR1")
    with pytest.raises(DataError, match=rf"the shard .*{first.sha256}.* cannot be read"):
        read_all(manifest)
    (table / first.path).unlink()
    with pytest.raises(DataError, match=rf"the shard .*{first.sha256}.* cannot be read"):
        read_all(manifest)


def damage(file: Path, row_group: int, part: int) -> None:
    """Change a byte of a column's values (4 bytes wide or more) so that it still decodes."""
    parquet = pq.ParquetFile(file)
    groups = [parquet.read_row_group(number) for number in range(parquet.num_row_groups)]
    names = parquet.schema_arrow.names
    column = groups[row_group].column(names[part]).to_numpy(zero_copy_only=False).copy()
    value = column[0]
    column[0] = value[:-1] + bytes([value[-1] ^ 1]) if isinstance(value, bytes) else value + 1
    kind = parquet.schema_arrow.field(part)
    groups[row_group] = groups[row_group].set_column(part, kind, [pa.array(column.tolist(), kind.type)])
    with pq.ParquetWriter(file, parquet.schema_arrow) as writer:
        for group in groups:
            writer.write_table(group.cast(parquet.schema_arrow), row_group_size=len(group))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", [1, 2, 3])
def test_a_row_group_that_decodes_to_something_else_is_named(
    published: Published, tmp_path: Path, part: int
) -> None:
    table, manifest = copied(published, tmp_path)
    shard = manifest.splits["train"].shards[1]
    damage(table / shard.path, 1, part)
    with pytest.raises(
        DataError, match=rf"row group 1 of .*{shard.sha256}.* has changed since it was published"
    ):
        read_all(manifest)


@pytest.mark.timeout(60)
def test_an_error_reaches_a_slow_consumer(published: Published, tmp_path: Path) -> None:
    table, manifest = copied(published, tmp_path)
    train = settings(streams=1, window=1, workers=2, batch=64)
    with BatchLoader(manifest, "train", train, World(0, 1), epochs=5000) as loader:
        next(loader)
        for shard in manifest.splits["train"].shards:
            # Open files stay readable on Linux: cut them off instead of deleting them.
            with (table / shard.path).open("r+b") as file:
                file.truncate(10)
        with pytest.raises(DataError, match="row group"):
            for _ in loader:
                pass


def test_a_feed_that_is_left_early_ends_its_threads(manifest: Manifest) -> None:
    with BatchLoader(manifest, "train", settings(workers=3), World(0, 1), epochs=50) as loader:
        next(loader)
        assert loader.reader is not None
        threads = loader.reader.pool._threads
        assert all(thread.is_alive() for thread in threads)
    assert not any(thread.is_alive() for thread in threads)


def column(**values: object) -> Column:
    return Column.model_validate(
        {"name": "x", "role": "feature", "dtype": "uint16", "shape": [2], "storage": FIXED, **values}
    )


def test_arrow_memory_is_viewed_not_copied() -> None:
    array = pa.array([b"\x01\x00\x02\x00", b"\x03\x00\x04\x00"], pa.binary(4))
    found = to_array(pa.table({"x": array}), column(), "here")
    assert found.tolist() == [[1, 2], [3, 4]]
    assert found.__array_interface__["data"][0] == array.buffers()[1].address
    # A slice begins in the middle of the buffer.
    assert to_array(pa.table({"x": array}).slice(1), column(), "here").tolist() == [[3, 4]]
    chunked = pa.table({"x": pa.chunked_array([array, array])})
    assert to_array(chunked, column(), "here").tolist() == [[1, 2], [3, 4], [1, 2], [3, 4]]


def test_columns_of_another_type_and_empty_values_are_refused() -> None:
    short = pa.table({"x": pa.array([b"\x01\x00"], pa.binary(2))})
    with pytest.raises(DataError, match=r"here has .* in the column 'x' instead of 4 bytes a row"):
        to_array(short, column(), "here")
    of_any_length = pa.table({"x": pa.array([b"\x01\x00\x02\x00"], pa.binary())})
    with pytest.raises(DataError, match="here has binary in the column 'x'"):
        to_array(of_any_length, column(), "here")
    null = pa.table({"x": pa.array([b"\x01\x00\x02\x00", None], pa.binary(4))})
    with pytest.raises(DataError, match="here has empty values in the column 'x'"):
        to_array(null, column(), "here")
    with pytest.raises(DataError, match="here has no column 'y'"):
        to_array(null, column(name="y"), "here")
    wide = pa.table({"x": pa.array([1, 2], pa.int64())})
    label = column(role="label", dtype="int32", shape=[], storage="int32")
    with pytest.raises(DataError, match="here has int64 in the column 'x' instead of int32"):
        to_array(wide, label, "here")


def test_memory_is_computed_from_the_manifest_and_refused_above_the_limit(manifest: Manifest) -> None:
    train = settings(streams=4, window=2, workers=3)
    columns = columns_of(manifest)
    # 16 bytes of key, 4 of label, 16 tokens of 2 bytes; as tensors 16, 8 and 16 times 4.
    assert row_bytes(columns) == 16 + 4 + 32
    order = split_order(manifest, "train", train)
    need = memory_need(order, World(0, 2), columns, train)
    # Two streams of this rank and one spare window, of two row groups of seven rows; no stream is longer.
    assert (need.slots, need.slot_rows) == (3, min(14, order.stream_rows(0)))
    assert need.windows_bytes == 3 * need.slot_rows * 52
    # 8 bytes for each row of the three windows, and of the four arrays while a window is shuffled.
    assert need.index_bytes == (3 + 4) * need.slot_rows * 8
    assert need.total == need.windows_bytes + need.index_bytes + need.ahead_bytes + need.blocks_bytes
    assert need.ahead_bytes == 6 * need.together * 7 * 52
    # Six blocks, and three batches that are copies because they lie in two blocks.
    assert need.blocks_bytes == (BLOCKS * 2 * need.block + 3 * 8) * (16 + 8 + 64)
    # Batches larger than a block are cut one at a time.
    large = memory_need(order, World(0, 2), columns, train, batch=100_000)
    assert (need.batches, large.batches) == (16, 1)
    assert large.blocks_bytes - need.blocks_bytes == 3 * (50_000 - 8) * (16 + 8 + 64)
    # It does not grow with the number of row groups.
    longer = split_order(manifest, "train", train).__class__(order.row_groups * 50, 4, 2, "root", 0)
    assert memory_need(longer, World(0, 2), columns, train).slot_rows == 14
    check_memory(need.total, train)
    with pytest.raises(UsageError, match=r"above train.read_memory = 1,000: lower train.streams"):
        check_memory(need.total, settings(read_memory=1000))


def test_a_block_of_wide_rows_holds_a_batch(manifest: Manifest) -> None:
    train, order = (
        settings(streams=4, window=2),
        split_order(manifest, "train", settings(streams=4, window=2)),
    )
    image = column(name="image", dtype="uint8", shape=[224, 224, 3])
    wide = memory_need(order, World(0, 1), [image], train, batch=256)
    assert (wide.block, wide.batches) == (64, 1)
    # They lie in blocks alone: those of other rows and one begun, the one that the windows reach, one of each of three
    # epochs that are planned; and in three copies. The epoch has fewer rows than a block could hold.
    assert (wide.wide_blocks, wide.wide_rows) == (BLOCKS + 1 + 1 + 3, order.rows)
    assert wide.blocks_bytes == (wide.wide_blocks * order.rows + 3 * 256) * 224 * 224 * 3
    assert (wide.windows_bytes, wide.ahead_bytes) == (0, train.workers * 7 * 224 * 224 * 3)
    # A window is not waited for within a block.
    assert wide.slots == 8
    # Narrower rows keep to the bytes of a block, however large the batch.
    narrow = memory_need(
        order, World(0, 1), [column(name="x", dtype="uint8", shape=[8192])], train, batch=4096
    )
    assert narrow.block * 4 == (4 << 20) // 8192


def test_row_groups_of_the_default_size_fit_into_the_default_memory_of_one_rank(manifest: Manifest) -> None:
    columns, train = columns_of(manifest), Train()
    rows = row_group_size(Publish(), {"train": 10**9}, row_bytes(columns))
    assert 3_900_000 < rows * row_bytes(columns) <= 4_000_000
    order = SplitOrder((rows,) * 1000, train.streams, train.window, "root", 0)
    # While a validation split as large is read, training keeps its own memory.
    check_memory(2 * memory_need(order, World(0, 1), columns, train).total, train)


def test_files_of_another_scheme_are_read(published: Published, manifest: Manifest) -> None:
    memory = fsspec.filesystem("memory")
    table = Path(manifest.table_uri)

    def put(shard: Shard) -> None:
        memory.makedirs("/reader/train", exist_ok=True)
        memory.pipe_file(f"/reader/{shard.path}", (table / shard.path).read_bytes())

    for shard in manifest.splits["train"].shards:
        put(shard)
    moved = manifest.model_copy(update={"table_uri": "memory://reader"})
    files = SplitFiles.of(moved, "train", columns_of(manifest))
    assert files.locations[0].startswith("memory://reader/train/")
    train = settings()
    with BatchLoader(moved, "train", train, World(0, 1)) as loader:
        ids = [one for _, batch in read_ids(loader) for one in batch]
    assert ids == expected_ids(manifest, train, 0)
    memory.rm("/reader", recursive=True)


def test_numbers_of_a_dtype_are_copied_as_one() -> None:
    columns = [
        column(name=name, dtype=dtype, shape=shape)
        for name, dtype, shape in (
            ("a", "float32", [1]),
            ("b", "int32", [1]),
            ("c", "float32", [1]),
            ("d", "float32", [2]),
        )
    ]
    bundles = bundles_of([*columns, column(name="e", role="label", dtype="float32", shape=[1])])
    assert [[one.name for one in bundle.columns] for bundle in bundles] == [["a", "c"], ["b"], ["d"]]
    assert [bundle.shape for bundle in bundles] == [(2,), (1,), (2,)]
    rows = torch.arange(6.0).reshape(3, 2)
    views = bundles[0].separated(rows)
    assert {name: view.tolist() for name, view in views.items()} == {
        "a": [[0.0], [2.0], [4.0]],
        "c": [[1.0], [3.0], [5.0]],
    }
    assert views["c"].untyped_storage().data_ptr() == rows.untyped_storage().data_ptr()
    assert bundles[2].separated(rows) == {"d": rows}
    assert [len(bundle.columns) for bundle in bundles_of(columns, separate=True)] == [1, 1, 1, 1]
