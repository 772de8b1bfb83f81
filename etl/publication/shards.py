"""Writing of shards: executors write each with pyarrow, with exact row groups, and hash it on the way.

Spark's own Parquet writer cannot fix the number of rows of a row group. A shard is streamed: one row group is in
memory at a time, whatever the size of the shard.
"""

import itertools
import os
import posixpath
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from common import storage
from common.errors import CheckError
from common.storage import Storage
from etl.encoders import encoder_of
from etl.publication.balance import SplitPlan, expected_rows, planned
from etl.publication.packing import DOCUMENTS_TYPE, NOTHING, PackedLayout, Packer, added
from etl.publication.parquet_bytes import HashingFile, of_fixed_width, one_chunk, values_of, written_as
from etl.spark.partitions import salts
from provenance.checksums import row_group_crc32
from provenance.keys import KEY_BYTES, add_sums, key_sums, record_key
from schemas.config import DOCUMENTS, Configuration
from schemas.split_content import Packing
from schemas.tables import spark_schema

SPARK_PARTITION_COLUMN = "split"
PART_SIGN = "/"
"""Sign between the name of a split and a part of it with shards of its own."""


@dataclass(frozen=True)
class WrittenShard:
    """Executor's report on a shard that it wrote."""

    split: str
    number: int
    path: str
    bytes: int
    rows: int
    row_groups: list[int]
    row_group_crc32: list[int]
    epoch_row_groups: list[int] | None
    sha256: str
    key_sums: tuple[int, int]
    epoch_key_sums: tuple[int, int]
    order_sum: int
    label_counts: dict[int, int]
    packing: Packing | None
    """Records whose parts its packed rows hold; None where each row is a record."""
    silo: int | None = None
    """Number of the group whose rows alone it has; None: it may have rows of several."""

    @property
    def records(self) -> int | None:
        """Records that end in the shard, where rows are packed."""
        return None if self.packing is None else self.packing.records

    @property
    def epoch_rows(self) -> int:
        """Rows in an epoch."""
        return self.rows if self.epoch_row_groups is None else sum(self.epoch_row_groups)


RESULT = pa.schema(
    [
        ("split", pa.string()),
        ("number", pa.int32()),
        ("path", pa.string()),
        ("bytes", pa.int64()),
        ("rows", pa.int64()),
        ("row_groups", pa.list_(pa.int64())),
        ("row_group_crc32", pa.list_(pa.int64())),
        ("epoch_row_groups", pa.list_(pa.int64())),
        ("sha256", pa.string()),
        ("key_sums", pa.list_(pa.string())),  # Spark has no unsigned integers
        ("epoch_key_sums", pa.list_(pa.string())),
        ("order_sum", pa.string()),
        ("labels", pa.list_(pa.int64())),
        ("label_counts", pa.list_(pa.int64())),
        ("packing", pa.string()),  # JSON
    ]
)


def shard_schema(config: Configuration) -> pa.Schema:
    """Return the Arrow schema of a shard, with dtype, shape and byte order in the metadata of fixed-width columns."""
    columns = [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("record_key", pa.binary(KEY_BYTES), nullable=False, metadata=_described("uint64", [2])),
    ]
    if config.columns.label is not None:
        columns.append(pa.field("label_index", pa.int32(), nullable=False))
    for feature in config.feature:
        encoder = encoder_of(feature)
        metadata = _described(encoder.dtype(feature), encoder.shape(feature))
        width = int(np.prod(encoder.shape(feature))) * np.dtype(encoder.dtype(feature)).itemsize
        columns.append(pa.field(feature.name, pa.binary(width), nullable=False, metadata=metadata))
    if config.packed_feature() is not None:
        columns.append(pa.field(DOCUMENTS, DOCUMENTS_TYPE, nullable=False))
    return pa.schema(columns)


def _described(dtype: str, shape: Sequence[int]) -> dict[str, str]:
    return {"dtype": dtype, "shape": ",".join(str(size) for size in shape), "byte_order": "little"}


def row_bytes(config: Configuration) -> int:
    """Return the bytes that training decodes of a row: key, label and features, all of fixed width."""
    unread = ("record_id", DOCUMENTS)
    widths = (part.type.bit_width // 8 for part in shard_schema(config) if part.name not in unread)
    return sum(widths)


def write_shards(
    frame: DataFrame,
    plans: Mapping[str, SplitPlan],
    rows_per_group: int,
    config: Configuration,
    table_uri: str,
    repeats: Sequence[int] | None = None,
    layout: PackedLayout | None = None,
) -> list[WrittenShard]:
    """Write all shards and return what was written, in the order of `planned(plans)`.

    `repeats` counts how often training reads the rows of each label index in an epoch (None: once); rows are written
    once. `layout` says how rows are packed (None: each is a record). `frame` is a pinned table with the columns of
    `encoded_schema` and `order_key`. A task that runs again writes the same bytes to the same name; a file of a failed
    attempt is in no commit. Raises CheckError when a shard does not have the planned rows.
    """
    shards = planned(plans)
    if not shards:
        return []
    place = {shard: number for number, shard in enumerate(shards)}
    salt = salts(len(shards))
    columns = ["record_id", "split", "order_key", *_payload(config)]
    with_shard = frame.select(*columns).mapInArrow(
        _assign_shards(dict(plans), place, salt),
        frame.select(*columns).withColumn("shard", sf.lit(0)).withColumn("salt", sf.lit(0)).schema,
    )
    sorted_rows = with_shard.repartition(len(shards), "salt").sortWithinPartitions(
        "shard", "order_key", "record_id"
    )
    writer = _write_partition(
        shards,
        shard_schema(config),
        rows_per_group,
        table_uri,
        config.storage,
        repeats,
        None if layout is None else (layout, dict(plans)),
    )
    # One action only: every action would run the writers again.
    rows = sorted_rows.mapInArrow(writer, spark_schema(RESULT)).collect()
    written = sorted((_result(row.asDict()) for row in rows), key=lambda s: place[(s.split, s.number)])
    found = [(shard.split, shard.number, shard.rows) for shard in written]
    expected = [(*shard, rows) for shard, rows in zip(shards, expected_rows(plans, shards), strict=True)]
    if found != expected:
        raise CheckError(
            f"the shards written do not have the planned rows: planned {expected}, written {found}"
        )
    return written


def _payload(config: Configuration) -> list[str]:
    label = ["label_index"] if config.columns.label is not None else []
    packed = config.packed_feature()
    beside = [] if packed is None else [f"{packed.name}_bytes"]
    return [*label, *(feature.name for feature in config.feature), *beside]


def _assign_shards(
    plans: dict[str, SplitPlan], place: dict[tuple[str, int], int], salt: list[int]
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    keys = {split: np.array([key for key, _ in plan.first], dtype=np.int64) for split, plan in plans.items()}

    def assign(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            order_keys = batch.column("order_key").to_numpy()
            splits = np.asarray(batch.column("split").to_pylist(), dtype=object)
            shards = np.zeros(batch.num_rows, dtype=np.int32)
            again: list[tuple[int, int]] = []  # rows that other shards need as well
            for split, plan in plans.items():
                mine = np.flatnonzero(splits == split)
                numbers = np.searchsorted(keys[split], order_keys[mine], side="right") - 1
                # Where a row's key equals the first key of a shard, the ids decide.
                for i in np.flatnonzero(np.isin(order_keys[mine], keys[split])):
                    row = int(mine[i])
                    which = int(order_keys[row]), batch.column("record_id")[row].as_py()
                    numbers[i] = plan.shard_of(*which)
                    again += [(row, place[(split, number)]) for number in plan.earlier_shards_of(*which)]
                offsets = np.array([place[(split, n)] for n in range(len(plan.first))], dtype=np.int32)
                shards[mine] = offsets[numbers]
            if again:
                batch = batch.take(pa.array([*range(batch.num_rows), *(row for row, _ in again)]))
                shards = np.concatenate((shards, np.array([number for _, number in again], dtype=np.int32)))
            arrays = [*batch.columns, pa.array(shards), pa.array(np.asarray(salt, dtype=np.int32)[shards])]
            yield pa.RecordBatch.from_arrays(arrays, names=[*batch.schema.names, "shard", "salt"])

    return assign


def _write_partition(
    shards: list[tuple[str, int]],
    schema: pa.Schema,
    rows_per_group: int,
    table_uri: str,
    options: Storage,
    repeats: Sequence[int] | None,
    packing: tuple[PackedLayout, Mapping[str, SplitPlan]] | None = None,
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        shard: ShardWriter | None = None
        results: list[dict[str, Any]] = []
        for batch in batches:
            numbers = batch.column("shard").to_numpy()
            starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), batch.num_rows]
            for start, end in itertools.pairwise(starts):
                if start == end:
                    continue
                split, number = shards[int(numbers[start])]
                if shard is not None and (shard.split, shard.number) != (split, number):
                    results.append(shard.close())
                    shard = None
                if shard is None:
                    times = repeats if split.partition(PART_SIGN)[0] == "train" else None
                    packer = None if packing is None else Packer(packing[0], packing[1][split], number)
                    shard = ShardWriter(
                        split, number, schema, rows_per_group, table_uri, options, times, packer
                    )
                shard.add(batch.slice(start, end - start))
        if shard is not None:
            results.append(shard.close())
        yield pa.RecordBatch.from_pylist(results, schema=RESULT)

    return write


@dataclass
class ShardWriter:
    """Writer of one shard, row group by row group, under a UUID first and then renamed to its SHA-256."""

    split: str
    number: int
    schema: pa.Schema
    rows_per_group: int
    table_uri: str
    options: Storage
    repeats: Sequence[int] | None = None
    """Reads of the rows of each label index in an epoch; None: one."""
    packer: Packer | None = None
    """Makes rows of the records it is given; None: each is a row."""
    pending: list[pa.Table] = field(default_factory=list)
    pending_rows: int = 0
    groups: list[int] = field(default_factory=list)
    checksums: list[int] = field(default_factory=list)
    group_repeats: list[int] = field(default_factory=list)
    sums: tuple[int, int] = (0, 0)
    repeated_sums: tuple[int, int] = (0, 0)
    order_sum: int = 0
    labels: Counter[int] = field(default_factory=Counter)
    packing: Packing = NOTHING

    def __post_init__(self) -> None:
        self.file_system, table = storage.filesystem(self.table_uri, self.options)
        partition = f"{SPARK_PARTITION_COLUMN}={self.split.partition(PART_SIGN)[0]}"
        self.folder = posixpath.join(table, partition)
        self.attempt = posixpath.join(self.folder, f".{uuid.uuid4().hex}.part")
        self.file_system.makedirs(self.folder, exist_ok=True)
        self.opened = self.file_system.open(self.attempt, "wb")
        self.hashing = HashingFile(self.opened)
        self.fixed = {part.name for part in self.schema} - {"record_id", DOCUMENTS}
        self.writer = pq.ParquetWriter(
            pa.PythonFile(self.hashing, mode="w"),
            self.schema,
            **written_as(self.schema, self.rows_per_group),
            use_dictionary=False,
            write_statistics=["record_id"],
            version="2.6",
        )

    def add(self, batch: pa.RecordBatch) -> None:
        """Take records in order and write every row group that they fill."""
        self._take(batch if self.packer is None else self.packer.add(batch))

    def _take(self, rows: pa.RecordBatch) -> None:
        self.pending.append(pa.Table.from_batches([rows]))
        self.pending_rows += rows.num_rows
        while self.pending_rows >= self.rows_per_group:
            self._write_group(self.rows_per_group)

    def close(self) -> dict[str, Any]:
        """Write the rest, make the file durable, and name it by its hash; return a row of `RESULT`."""
        if self.packer is not None:
            self._take(self.packer.finish())
        if self.pending_rows:
            self._write_group(self.pending_rows)
        self.writer.close()
        self.opened.flush()
        if storage.is_local(self.table_uri):
            os.fsync(self.opened.fileno())
        self.opened.close()
        sha256 = self.hashing.digest.hexdigest()
        name = f"{sha256}.parquet"
        self.file_system.mv(self.attempt, posixpath.join(self.folder, name))
        labels = sorted(self.labels)
        return {
            "split": self.split,
            "number": self.number,
            "path": f"{posixpath.basename(self.folder)}/{name}",
            "bytes": self.hashing.size,
            "rows": sum(self.groups),
            "row_groups": self.groups,
            "row_group_crc32": self.checksums,
            "epoch_row_groups": None if self.repeats is None else self.group_repeats,
            "sha256": sha256,
            "key_sums": [str(value) for value in self.sums],
            "epoch_key_sums": [
                str(value) for value in (self.sums if self.repeats is None else self.repeated_sums)
            ],
            "order_sum": str(self.order_sum),
            "labels": labels,
            "label_counts": [self.labels[label] for label in labels],
            "packing": None if self.packer is None else self.packing.model_dump_json(),
        }

    def _write_group(self, rows: int) -> None:
        table = pa.concat_tables(self.pending)
        # One chunk a column: the bytes of a Parquet file depend on where its chunks end.
        group = table.slice(0, rows).combine_chunks()
        rest = table.slice(rows)
        self.pending, self.pending_rows = ([rest] if rest.num_rows else []), rest.num_rows
        ids = group.column("record_id").to_pylist()
        keys = [record_key(record_id) for record_id in ids]
        halves = np.frombuffer(b"".join(keys), dtype="<u8").reshape(-1, 2)
        self.sums = add_sums([self.sums, key_sums(halves)])
        if self.packer is None:
            self.order_sum += int(sum(group.column("order_key").to_pylist()))
        else:
            self.packing = added([self.packing, self.packer.layout.written(group)])
        if "label_index" in self.schema.names:
            self.labels.update(group.column("label_index").to_pylist())
        if self.repeats is not None:
            times = np.asarray(self.repeats, dtype=np.uint64)[group.column("label_index").to_numpy()]
            self.group_repeats.append(int(times.sum()))
            # Products and sums of uint64 are those modulo 2^64.
            self.repeated_sums = add_sums([self.repeated_sums, key_sums(halves * times[:, None])])
        columns = [
            pa.array(keys, part.type)
            if part.name == "record_key"
            else of_fixed_width(one_chunk(group.column(part.name)), part)
            for part in self.schema
        ]
        self.writer.write_table(pa.Table.from_arrays(columns, schema=self.schema), row_group_size=rows)
        self.groups.append(rows)
        # All but the ids and documents, which training does not read.
        read = [one for one, part in zip(columns, self.schema, strict=True) if part.name in self.fixed]
        self.checksums.append(row_group_crc32(map(values_of, read)))


def _result(row: dict[str, Any]) -> WrittenShard:
    sums, repeated_sums = ((int(row[name][0]), int(row[name][1])) for name in ("key_sums", "epoch_key_sums"))
    groups = row["epoch_row_groups"]
    return WrittenShard(
        split=row["split"],
        number=row["number"],
        path=row["path"],
        bytes=row["bytes"],
        rows=row["rows"],
        row_groups=list(row["row_groups"]),
        row_group_crc32=list(row["row_group_crc32"]),
        epoch_row_groups=None if groups is None else list(groups),
        sha256=row["sha256"],
        key_sums=sums,
        epoch_key_sums=repeated_sums,
        order_sum=int(row["order_sum"]),
        label_counts=dict(zip(row["labels"], row["label_counts"], strict=True)),
        packing=None if row["packing"] is None else Packing.model_validate_json(row["packing"]),
    )
