"""Memory that reading will hold, computed from the manifest before the first step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import UsageError
from schemas.manifest import WIDE_ROW, Column
from schemas.settings import Train
from training.input.columns import dtype_for_model, is_wide, row_bytes
from training.input.order import SplitOrder
from training.parallel.world import World

BLOCK_ROWS = 4096
BLOCK_BYTES = 4 << 20
"""Limits, in rows and bytes, of what is put in its place at a time; the lower one applies."""
BLOCKS = 6
"""Blocks in memory: one being filled, one waiting, one being cut, and those of batches waiting or in use."""
BATCHES_TOGETHER = 16
BEING_SHUFFLED = 4
"""Arrays of the size of an index that exist while the index of one window is made."""
TASK_BYTES = 1 << 20
"""Rough number of bytes per read: a hand-over between threads costs as much as a small row group."""


@dataclass(frozen=True)
class MemoryNeed:
    """Upper bound of what a rank's reader holds, and the sizes that follow from it."""

    slots: int
    """Windows held at a time: one for each stream of the rank, and spare ones that let the next window arrive early."""
    slot_rows: int
    """Rows of the largest window."""
    together: int
    """Row groups that a worker reads at a time."""
    ahead: int
    """Tasks (of `together` row groups each) that are read before they are needed."""
    block: int
    """Elements of each stream that are put in their places at a time."""
    batches: int
    """Batches cut at a time in a thread, so that the training loop only has to take them."""
    wide_blocks: int
    """Blocks in which wide rows are put when they are read, from those in use to the last that is planned."""
    wide_rows: int
    """Rows of such a block: no more than the rank has in an epoch."""
    windows_bytes: int
    index_bytes: int
    """Bytes of the indices of shuffled windows: 8 for each row taken, repeats included."""
    ahead_bytes: int
    blocks_bytes: int

    @property
    def total(self) -> int:
        """Bytes in total."""
        return self.windows_bytes + self.index_bytes + self.ahead_bytes + self.blocks_bytes

    @property
    def told(self) -> str:
        """The need in words."""
        return (
            f"{self.total / 2**20:,.1f} MiB on this rank: "
            f"{self.slots} windows of up to {self.slot_rows:,} rows {self.windows_bytes / 2**20:,.1f}, "
            f"their order {self.index_bytes / 2**20:,.1f}, "
            f"read ahead {self.ahead_bytes / 2**20:,.1f}, being placed {self.blocks_bytes / 2**20:,.1f}"
        )


def memory_need(
    order: SplitOrder,
    world: World,
    columns: Sequence[Column],
    settings: Train,
    batch: int | None = None,
    largest: int | None = None,
) -> MemoryNeed:
    """Compute the memory for reading a split on a rank, in global batches of `batch` rows (default: those of training).

    `largest` is the number of rows in the largest row group of the files, by default that of the order; the order
    counts more when rows are taken several times. The need grows with window × row group × streams of the rank, not
    with the number of row groups.
    """
    owned = len(order.streams_of(world))
    largest_taken = max(order.row_groups, default=0)
    largest = largest_taken if largest is None else largest
    width, width_out = row_bytes(columns), block_row_bytes(columns)
    wide = row_bytes([column for column in columns if is_wide(column)])
    # A window holds whole row groups of a stream, except for the two that its cuts divide.
    slot_rows = min(settings.window * largest, order.stream_rows(0))
    taken_rows = min(settings.window * largest_taken, order.stream_rows(0))
    group = max(1, largest * width)
    together = max(1, TASK_BYTES // group)
    ahead = 2 * settings.workers  # one in the hands of each worker, and one waiting
    local = -(-(batch or settings.batch) // world.size)
    block = max(1, min(BLOCK_ROWS, BLOCK_BYTES // width_out) // max(1, owned))
    if width_out >= WIDE_ROW:
        # Whole batches, where the streams share one evenly: joining it from several blocks would copy it again, into
        # fresh memory.
        elements = -(-min(local, BLOCK_ROWS) // max(1, owned))
        block = elements * max(1, block // elements)
    block_rows = block * owned
    spare = max(1, owned // 8)
    if wide:
        # As many as begin within a block, so that it is not cut where a window has to wait for a slot.
        spare = max(spare, min(owned, 1 + -(-block_rows // max(1, slot_rows))))
    slots = owned + spare
    # Windows that are planned beyond those in use begin within them, so long as there is no more than one a stream.
    beyond = spare + -(-ahead * together // settings.window) + 1
    planned = taken_rows * (1 + -(-beyond // max(1, owned)))
    # A block ends with its epoch, and several short epochs may be planned.
    groups = max(1, order.groups_taken * owned // order.stream_count)
    epochs = 1 + -(-(slots * settings.window + ahead * together) // groups)
    wide_blocks = BLOCKS + 1 + -(-planned // block) + epochs if wide else 0
    wide_rows = min(block_rows, sum(map(order.stream_rows, order.streams_of(world))))
    batches = max(1, min(BATCHES_TOGETHER, block_rows // local))
    # A batch that spans several blocks is a copy; a list of batches is being cut, one waits, one is in use.
    copies = 3 * local
    return MemoryNeed(
        slots,
        slot_rows,
        together,
        ahead,
        block,
        batches,
        wide_blocks,
        wide_rows,
        windows_bytes=slots * slot_rows * (width - wide),
        index_bytes=(slots + BEING_SHUFFLED) * taken_rows * 8,
        # Wide rows leave the worker for their blocks.
        ahead_bytes=ahead * together * largest * (width - wide) + settings.workers * largest * wide,
        blocks_bytes=BLOCKS * block_rows * (width_out - wide)
        + wide_blocks * wide_rows * wide
        + copies * width_out,
    )


def block_row_bytes(columns: Sequence[Column]) -> int:
    """Return the bytes of a row as the model gets it: features as in `dtype_for_model`, keys and labels in 64 bits."""
    total = 0
    for column in columns:
        is_feature = column.role == "feature"
        size = dtype_for_model(column).itemsize if is_feature else 8
        total += math.prod(column.shape) * size
    return total


def check_memory(total: int, settings: Train) -> None:
    """Raise UsageError with the remedy if the readers would hold more bytes than `train.read_memory`."""
    if total > settings.read_memory:
        raise UsageError(
            f"reading would hold {total:,} bytes on this rank, above train.read_memory = "
            f"{settings.read_memory:,}: lower train.streams or train.window, start more ranks, "
            "publish smaller row groups (publish.rows_per_group), or raise train.read_memory"
        )
