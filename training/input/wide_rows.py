"""Wide rows, such as images: read from the file to their places in the batches to come.

Copying such a row costs more than all else that is done for it. The order determines a row's place before the row is
read, so that one system call puts a row group's rows where they belong, and each is still in the processor's cache when
its checksum is computed.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch

from schemas.manifest import Column
from training.input.buffers import Buffers
from training.input.columns import dtype_for_model, is_wide, row_bytes
from training.input.memory import MemoryNeed
from training.input.order import EpochOrder, Window

Row = npt.NDArray[np.uint8]
"""(bytes,): memory of one row."""
ONE_PAGE_HEADER = 40
"""Bytes above which there is more than the header of one data page: a header has 21 to 34, with a checksum of its own
(parquet.thrift, PageHeader in the compact protocol, without statistics).
"""
MOST_BUFFERS = 1024
"""Buffers of one system call: IOV_MAX on Linux."""
CACHED_BYTES = 512 << 10
"""Bytes that are read before they are checked: they stay in a core's own cache until then."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A row group to read, numbered within its split, and where the rows taken from it belong."""

    row_group: int
    first: int = 0
    """The first row that is taken, repeats included (see `training.input.order.Segment`)."""
    places: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    """By wide column: the place of each row that is taken."""

    def read(self, name: str, rows: int, path: str, offset: int) -> Iterator[Row]:
        """Read a column of `rows` rows to their places, those not taken elsewhere; yield the memory of each in turn.

        Raises OSError.
        """
        places = self.places[name]
        width = len(places[0])
        after = rows - self.first - len(places)
        yield from read_rows(
            path,
            offset,
            [
                *np.empty((self.first, width), dtype=np.uint8),
                *places,
                *np.empty((after, width), dtype=np.uint8),
            ],
        )


class WideBlocks:
    """Blocks of wide rows to come, filled by the reader's workers."""

    def __init__(
        self, columns: Sequence[Column], need: MemoryNeed, streams: range, pinned: bool = False
    ) -> None:
        """Prepare for the rows of `streams`, all those of this rank."""
        self.columns = [column for column in columns if is_wide(column)]
        self.need, self.streams = need, streams
        self._buffers = Buffers(need.wide_blocks, pinned)
        self._blocks: dict[tuple[int, int], dict[str, torch.Tensor]] = {}

    def plan(self, windows: Iterable[tuple[EpochOrder, Window]]) -> Iterator[Reading]:
        """Yield what to read for the windows, in the order in which they are needed."""
        for epoch, window in windows:
            if not self.columns:
                yield from (Reading(segment.row_group) for segment in window.segments)
                continue
            elements = np.empty(window.rows, dtype=np.int64)
            elements[epoch.shuffled(window)] = np.arange(window.first, window.end)
            at = 0
            for segment in window.segments:
                after = at + segment.last - segment.first
                places = self._places(epoch.epoch, window.stream, elements[at:after].tolist())
                yield Reading(segment.row_group, segment.first, places)
                at = after

    def _places(self, epoch: int, stream: int, elements: Sequence[int]) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {column.name: [] for column in self.columns}
        of_stream, owned = self.streams.index(stream), len(self.streams)
        as_bytes: dict[int, dict[str, npt.NDArray[np.uint8]]] = {}
        for element in elements:
            number, within = divmod(element, self.need.block)
            if number not in as_bytes:
                if (epoch, number) not in self._blocks:
                    self._blocks[epoch, number] = self._empty()
                as_bytes[number] = {
                    name: tensor.numpy().reshape(len(tensor), -1).view(np.uint8)
                    for name, tensor in self._blocks[epoch, number].items()
                }
            for name, rows in as_bytes[number].items():
                found[name].append(rows[within * owned + of_stream])
        return found

    def _empty(self) -> dict[str, torch.Tensor]:
        return {
            column.name: self._buffers.empty(
                column.name, (self.need.wide_rows, *column.shape), dtype_for_model(column)
            )
            for column in self.columns
        }

    def rows(self, epoch: int, first: int, rows: int) -> dict[str, torch.Tensor]:
        """Return the rows of a rank from the local row `first` on, all in one block, and let go of earlier blocks."""
        size = self.need.block * len(self.streams)
        number, within = divmod(first, size)
        for earlier in [one for one in self._blocks if one < (epoch, number)]:
            del self._blocks[earlier]
        block = self._blocks.get((epoch, number), {})
        return {name: tensor[within : within + rows] for name, tensor in block.items()}


def stored_at(metadata: pq.FileMetaData, row_group: int, column: Column) -> int | None:
    """Return where in the file the rows of a wide column begin, if they lie there end to end as they are."""
    group = metadata.row_group(row_group)
    for number in range(group.num_columns):
        chunk, described = group.column(number), metadata.schema.column(number)
        if chunk.path_in_schema != column.name:
            continue
        width = row_bytes([column])
        header = chunk.total_compressed_size - group.num_rows * width
        if (
            chunk.physical_type == "FIXED_LEN_BYTE_ARRAY"
            and described.length == width
            and described.max_definition_level == described.max_repetition_level == 0
            and chunk.compression == "UNCOMPRESSED"
            and not chunk.has_dictionary_page
            and 0 < header <= ONE_PAGE_HEADER
        ):
            return int(chunk.data_page_offset + header)
        break
    return None


def read_rows(path: str, offset: int, rows: Sequence[Row]) -> Iterator[Row]:
    """Read consecutive rows of a local file from `offset` on, each into its memory; yield them in turn.

    Raises OSError.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    at_once = max(1, min(MOST_BUFFERS, CACHED_BYTES // len(rows[0]))) if rows else 1
    try:
        for first in range(0, len(rows), at_once):
            some = rows[first : first + at_once]
            left = [memoryview(row) for row in some]
            while left:
                read = os.preadv(file, left, offset)
                if not read:
                    raise OSError("the file ends within the row group")
                offset += read
                while left and read >= len(left[0]):
                    read -= len(left.pop(0))
                if read:
                    left[0] = left[0][read:]
            yield from some
    finally:
        os.close(file)
