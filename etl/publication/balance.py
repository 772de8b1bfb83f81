"""Balanced partitioning: the number of rows in each shard, and where each shard begins in the total order.

The rows of a split are ordered by (xxhash64 of the record id, record id): the same order for every partitioning, and
one that mixes sources and classes. Shards are cut from it by rank, so their sizes are exact whatever the data.
"""

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from schemas.settings import Publish

ROWS_PER_BUCKET = 4096
"""Approximate records of a bucket; the driver inspects single ids only in buckets that contain a boundary."""
GROUP_BYTES = 4_000_000
"""Decoded bytes of a row group by default: large enough to amortise Parquet's overhead, small enough that training
holds many row groups and shuffles their rows.
"""
TRAIN_GROUPS = 256
"""Smallest default number of row groups of the training split: 64 streams that shuffle 4 row groups at a time."""
SMALLEST_GROUP = 64
SHARD_BYTES = 1 << 30
"""Decoded bytes of a shard by default."""
DEFAULT_SHARDS = 8
GROUPS_A_SHARD = 4
ID_BYTES = 32
"""Approximate bytes of a row's id; training does not decode it, but it is stored in the shard."""


@dataclass(frozen=True)
class SplitPlan:
    """Shards of one split: the number of rows of each, and the order key and id of its first row."""

    split: str
    rows: tuple[int, ...]
    first: tuple[tuple[int, str], ...]
    skipped: tuple[int, ...] = ()
    """Where rows are packed: tokens of the first record of each shard that stand in earlier shards."""

    def shard_of(self, key: int, record_id: str) -> int:
        """Return the number of the shard that holds the row with this order key and id, or its end."""
        return bisect.bisect_right(self.first, (key, record_id)) - 1

    def earlier_shards_of(self, key: int, record_id: str) -> list[int]:
        """Return the numbers of the shards before that hold the beginning of a packed record."""
        first = bisect.bisect_left(self.first, (key, record_id))
        return [n - 1 for n in range(first, self.shard_of(key, record_id) + 1) if self.skipped[n]]


def shard_rows(rows: int, shards: int, rows_per_group: int) -> list[int]:
    """Return the rows of each shard; sizes differ by a row group at most, and only the split's last may be partial.

    There are never more shards than row groups. The larger shards stand last, so that the partial row group belongs
    to a larger one: otherwise the difference could exceed a row group.
    """
    groups = math.ceil(rows / rows_per_group)
    if groups == 0:
        return []
    shards = min(shards, groups)
    small, larger = divmod(groups, shards)
    sizes = [(small + (number >= shards - larger)) * rows_per_group for number in range(shards)]
    sizes[-1] -= groups * rows_per_group - rows
    return sizes


def row_group_size(publish: Publish, rows: Mapping[str, int], row_bytes: int) -> int:
    """Return the rows of a full row group: as configured, else about GROUP_BYTES decoded.

    A small data set gets smaller ones, so that the training split still has about TRAIN_GROUPS: training shuffles row
    groups, and its streams are made of them. `rows` are those of each split, `row_bytes` the decoded size of one.
    """
    if publish.rows_per_group is not None:
        return publish.rows_per_group
    most = max(1, GROUP_BYTES // row_bytes)
    return min(most, max(SMALLEST_GROUP, rows.get("train", 0) // TRAIN_GROUPS))


def shard_counts(rows: Mapping[str, int], publish: Publish, row_bytes: int) -> dict[str, int]:
    """Return the number of shards of each split: `shards` for train and in proportion for the others, or by size.

    With neither configured: shards of about SHARD_BYTES, but up to DEFAULT_SHARDS of at least GROUPS_A_SHARD row
    groups where that gives more, so that a small data set is written, read and verified in parallel too.
    """
    train = max(rows.get("train", 0), 1)
    shards = publish.shards
    if shards is None:
        rows_per_shard = max(1, (publish.target_shard_bytes or SHARD_BYTES) // (row_bytes + ID_BYTES))
        if publish.target_shard_bytes is not None:
            return {split: max(1, round(count / rows_per_shard)) for split, count in rows.items()}
        groups = math.ceil(train / row_group_size(publish, rows, row_bytes))
        shards = max(round(train / rows_per_shard), min(DEFAULT_SHARDS, groups // GROUPS_A_SHARD), 1)
    return {
        split: shards if split == "train" else max(1, round(shards * count / train))
        for split, count in rows.items()
    }


def with_order_key(frame: DataFrame) -> DataFrame:
    """Add `order_key`, a 64-bit hash of the record id (Spark's xxhash64, seed 42, which is stable by contract)."""
    return frame.withColumn("order_key", sf.xxhash64("record_id"))


def plan(
    frame: DataFrame,
    splits: Mapping[str, tuple[int, int]],
    rows_per_group: int,
    size: Column | None = None,
    length: int = 1,
    records: int | None = None,
) -> dict[str, SplitPlan]:
    """Plan where each shard begins; `splits` names (rows, shards) of each split.

    `frame` has record_id, split, order_key. Where rows are packed, `size` is the number of tokens of a record, its
    separator included, `length` that of a row, and `records` the number of all records, by which buckets are sized. Two
    narrow jobs: sizes by bucket of the order key, then the ids of the buckets that contain a boundary.
    """
    size = sf.lit(1) if size is None else size
    total = sum(rows for rows, _ in splits.values()) if records is None else records
    bits = max(0, math.ceil(math.log2(max(1, total / ROWS_PER_BUCKET))))
    # Signed keys shifted arithmetically keep their order: bucket -2^(bits-1) holds the smallest.
    bucket = sf.shiftright("order_key", 64 - bits) if bits else sf.lit(0).cast("long")
    bucketed = frame.select("split", bucket.alias("bucket"), "order_key", "record_id", size.alias("size"))
    counts = bucketed.groupBy("split", "bucket").agg(sf.sum("size").alias("size")).collect()
    wanted: dict[tuple[str, int], list[tuple[int, int]]] = {}
    sizes: dict[str, list[int]] = {}
    for split, (rows, shards) in splits.items():
        sizes[split] = shard_rows(rows, shards, rows_per_group)
        held = sorted((row["bucket"], row["size"]) for row in counts if row["split"] == split)
        rank = before = place = 0
        for number, rows_of_shard in enumerate(sizes[split]):
            while before + held[place][1] <= rank:
                before, place = before + held[place][1], place + 1
            wanted.setdefault((split, held[place][0]), []).append((number, rank - before))
            rank += rows_of_shard * length
    keys = [sf.struct(sf.lit(split), sf.lit(bucket).cast("long")) for split, bucket in wanted]
    boundary_rows = bucketed.where(sf.struct("split", "bucket").isin(keys)) if keys else bucketed.limit(0)
    ids: dict[tuple[str, int], list[tuple[int, str, int]]] = {}
    for row in boundary_rows.collect():
        of_bucket = ids.setdefault((row["split"], row["bucket"]), [])
        of_bucket.append((row["order_key"], row["record_id"], row["size"]))
    first: dict[str, dict[int, tuple[int, str]]] = {split: {} for split in splits}
    skipped: dict[str, dict[int, int]] = {split: {} for split in splits}
    for place_of, boundaries in wanted.items():
        ordered = sorted(ids[place_of])
        starts = list(itertools.accumulate((one[2] for one in ordered), initial=0))
        for number, offset in boundaries:
            at = bisect.bisect_right(starts, offset) - 1
            first[place_of[0]][number] = ordered[at][:2]
            skipped[place_of[0]][number] = offset - starts[at]
    return {
        split: SplitPlan(
            split,
            tuple(sizes[split]),
            tuple(first[split][n] for n in range(len(sizes[split]))),
            tuple(skipped[split][n] for n in range(len(sizes[split]))),
        )
        for split in splits
    }


def row_groups(rows: int, rows_per_group: int) -> list[int]:
    """Return the rows of each row group of a shard: all full but perhaps the last."""
    full, rest = divmod(rows, rows_per_group)
    return [rows_per_group] * full + ([rest] if rest else [])


def planned(plans: Mapping[str, SplitPlan]) -> list[tuple[str, int]]:
    """Return all shards as (split, number), in a fixed order that numbers their partitions."""
    return [(split, number) for split in sorted(plans) for number in range(len(plans[split].rows))]


def expected_rows(plans: Mapping[str, SplitPlan], shards: Sequence[tuple[str, int]]) -> list[int]:
    """Return the rows of each shard in the order of `planned`."""
    return [plans[split].rows[number] for split, number in shards]
