"""Packed rows: the records of a split laid end to end, a separator after each, and cut into rows of one length.

Where a record begins follows from the sizes of all records before it in the total order of publication, so that rows
depend on neither partitions nor cores. Sums over the records sent and the rows written prove that every record is in
them exactly once and in whole.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from common.errors import CheckError
from etl.encoders.fixed import fixed_rows
from etl.encoders.tokens import dtype
from etl.publication.balance import SplitPlan
from provenance.keys import add_sums, key_sums, record_keys
from provenance.packed import token_sums
from schemas.config import DOCUMENTS, canonical_json
from schemas.features.packed_tokens import PackedTokensFeature
from schemas.split_content import Packing

DOCUMENTS_TYPE = pa.list_(
    pa.struct(
        [("record_id", pa.string()), ("first", pa.int64()), ("last", pa.int64()), ("bytes", pa.int64())]
    )
)
"""Parts of records in a row, in order: first and last token by their positions in the record, whose separator stands
after its tokens; UTF-8 bytes of the whole text."""
ID_CHARACTERS = 32
Ints = npt.NDArray[np.int64]
NOTHING = Packing(records=0, record_key_sums=(0, 0), tokens=0, token_sums=(0, 0), padding=0, text_bytes=0)


@dataclass(frozen=True)
class PackedLayout:
    """Layout of packed rows: the tokens of a row, the separator, and the column with the tokens."""

    name: str
    length: int
    separator: int
    dtype: str

    @classmethod
    def of(cls, feature: PackedTokensFeature, separator: int) -> "PackedLayout":
        return cls(feature.name, feature.length, separator, dtype(feature))

    def rows(self, packing: Packing) -> int:
        """Return the rows that records fill."""
        return -(-(packing.tokens + packing.records) // self.length)

    def size(self) -> Column:
        """Return the tokens of a record of silver/encoded, its separator included."""
        return sf.col(f"{self.name}_tokens") + sf.lit(1)

    def tokens(self, column: pa.Array) -> tuple[Ints, Ints]:
        """Return the tokens of a binary column end to end, and their number in each element."""
        _, offsets, values = column.buffers()
        wide = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1].astype(
            np.int64
        )
        width = np.dtype(self.dtype).itemsize
        stored = np.frombuffer(values or b"", np.uint8)[wide[0] : wide[-1]].view(
            np.dtype(self.dtype).newbyteorder("<")
        )
        return stored.astype(np.int64), np.diff(wide) // width

    def sent(self, records: pa.RecordBatch) -> Packing:
        """Return the sums over records of silver/encoded, whose separators are still to come."""
        ids, counts = self.tokens(records.column(self.name))
        stream = np.insert(ids, np.cumsum(counts), self.separator)
        keys = record_keys(records.column("record_id").to_pylist())
        return Packing(
            records=len(counts),
            record_key_sums=key_sums(keys),
            tokens=len(ids),
            token_sums=token_sums(keys, np.zeros(len(counts), np.int64), counts + 1, stream),
            padding=0,
            text_bytes=int(np.sum(records.column(f"{self.name}_bytes").to_numpy(zero_copy_only=False))),
        )

    def written(self, rows: pa.Table) -> Packing:
        """Return the sums over rows, from nothing but their documents and tokens."""
        column = rows.column(DOCUMENTS).combine_chunks()
        parts = column.flatten()
        first, last = (parts.field(name).to_numpy().astype(np.int64) for name in ("first", "last"))
        counts = last - first + 1
        tokens, _ = self.tokens(rows.column(self.name).combine_chunks())
        held = np.add.reduceat(
            np.append(counts, 0), column.offsets.to_numpy()[:-1] - column.offsets[0].as_py()
        )
        kept = np.arange(self.length) < held[:, None]
        stream = tokens.reshape(-1, self.length)[kept]
        keys = record_keys(parts.field("record_id").to_pylist())
        ends = stream[np.cumsum(counts) - 1] == self.separator
        return Packing(
            records=int(ends.sum()),
            record_key_sums=key_sums(keys[ends]),
            tokens=len(stream) - int(ends.sum()),
            token_sums=token_sums(keys, first, counts, stream),
            padding=int((~kept).sum()),
            text_bytes=int(parts.field("bytes").to_numpy()[ends].sum()),
        )


def added(parts: Iterable[Packing]) -> Packing:
    """Return the sums of a whole from those of its parts."""
    each = list(parts)
    return Packing(
        records=sum(one.records for one in each),
        record_key_sums=add_sums(one.record_key_sums for one in each),
        tokens=sum(one.tokens for one in each),
        token_sums=add_sums(one.token_sums for one in each),
        padding=sum(one.padding for one in each),
        text_bytes=sum(one.text_bytes for one in each),
    )


def sums_sent(frame: DataFrame, layout: PackedLayout) -> dict[str, Packing]:
    """Return the sums over the records of silver/encoded by split."""
    found: dict[str, list[Packing]] = {}
    columns = frame.select("split", "record_id", layout.name, f"{layout.name}_bytes")
    for row in columns.mapInArrow(_sums(layout), "split string, packing string").collect():
        found.setdefault(row["split"], []).append(Packing.model_validate_json(row["packing"]))
    return {split: added(parts) for split, parts in found.items()}


def _sums(layout: PackedLayout) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def sums(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            splits = np.asarray(batch.column("split").to_pylist(), dtype=object)
            for split in sorted(set(splits)):
                found = layout.sent(batch.filter(pa.array(splits == split)))
                yield pa.RecordBatch.from_pydict({"split": [split], "packing": [found.model_dump_json()]})

    return sums


def check_written(sent: Mapping[str, Packing], written: Mapping[str, Sequence[Packing | None]]) -> None:
    """Raise CheckError where the rows written do not hold every record sent exactly once and in whole."""
    for split, of_split in sent.items():
        found = added(one for one in written.get(split, ()) if one is not None)
        if found.model_copy(update={"padding": 0}) != of_split:
            raise CheckError(
                f"the {split} shards hold {found.records:,} records of {found.tokens:,} tokens, but "
                f"{of_split.records:,} of {of_split.tokens:,} were sent, or they are others: nothing was published; "
                "run the stage again and report this"
            )


def _nothing() -> Ints:
    return np.zeros(0, np.int64)


@dataclass
class Packer:
    """Packer of one shard: takes records in order, and returns the rows that they fill."""

    layout: PackedLayout
    plan: SplitPlan
    number: int
    rows_made: int = 0
    ids: list[str] | None = None
    """Records that the row begun holds parts of; None before the first."""
    first: Ints = field(default_factory=_nothing)
    """Position in each of these records where its part begins."""
    counts: Ints = field(default_factory=_nothing)
    """Tokens of each from there on, with its separator."""
    bytes: Ints = field(default_factory=_nothing)
    stream: Ints = field(default_factory=_nothing)
    """Those tokens end to end."""

    def add(self, records: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows that these records fill: `record_id`, the tokens, `documents`."""
        tokens, counts = self.layout.tokens(records.column(self.layout.name))
        stream, counts = np.insert(tokens, np.cumsum(counts), self.layout.separator), counts + 1
        first = np.zeros(len(counts), np.int64)
        if self.ids is None:  # earlier shards hold the beginning of the first record
            self.ids, first[0] = [], self.plan.skipped[self.number]
            stream, counts[0] = stream[first[0] :], counts[0] - first[0]
        self.ids += records.column("record_id").to_pylist()
        sizes = records.column(f"{self.layout.name}_bytes").to_numpy(zero_copy_only=False)
        for name, more in (("first", first), ("counts", counts), ("bytes", sizes), ("stream", stream)):
            setattr(self, name, np.concatenate((getattr(self, name), more)))
        # A record may go on in later shards: what is beyond the planned rows is theirs.
        left = self.plan.rows[self.number] - self.rows_made
        return self._rows(min(left, len(self.stream) // self.layout.length))

    def finish(self) -> pa.RecordBatch:
        """Return the last row of the split, filled up with padding, or none.

        Raises CheckError where the shard does not have the planned rows.
        """
        planned = self.plan.rows[self.number]
        is_last = self.number == len(self.plan.rows) - 1
        rest = self._rows(1 if is_last and self.rows_made < planned and len(self.stream) else 0)
        if self.rows_made != planned:
            raise CheckError(
                f"shard {self.number} of the {self.plan.split} split has {self.rows_made:,} packed rows, but "
                f"{planned:,} were planned: nothing was published; report this"
            )
        return rest

    def _rows(self, rows: int) -> pa.RecordBatch:
        """Cut rows off the stream."""
        length = self.layout.length
        end = min(rows * length, len(self.stream))
        starts = np.cumsum(self.counts) - self.counts
        cuts = np.unique(np.concatenate((starts[starts < end], np.arange(rows) * length)))
        part = np.searchsorted(starts, cuts, side="right") - 1
        first = self.first[part] + cuts - starts[part]
        last = first + np.diff(np.append(cuts, end)) - 1
        ids = np.asarray(self.ids or [], dtype=object)[part]
        ends = np.searchsorted(cuts // length, np.arange(rows + 1))
        parts = pa.StructArray.from_arrays(
            [pa.array(ids, pa.string()), *map(pa.array, (first, last, self.bytes[part]))],
            fields=list(DOCUMENTS_TYPE.value_type),
        )
        documents = pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), parts).cast(DOCUMENTS_TYPE)
        places = list(zip(ids.tolist(), first.tolist(), last.tolist(), strict=True))
        names = [_row_id(places[begin:after]) for begin, after in itertools.pairwise(ends.tolist())]
        tokens = np.zeros((rows, length), np.dtype(self.layout.dtype).newbyteorder("<"))
        tokens.reshape(-1)[:end] = self.stream[:end]
        self._drop(end, starts)
        self.rows_made += rows
        return pa.RecordBatch.from_pydict(
            {
                "record_id": pa.array(names, pa.string()),
                self.layout.name: fixed_rows(tokens),
                DOCUMENTS: documents,
            }
        )

    def _drop(self, end: int, starts: Ints) -> None:
        """Forget the tokens before `end`, and the records that end there."""
        left = starts + self.counts > end
        taken = np.maximum(end - starts[left], 0)
        self.first, self.counts = self.first[left] + taken, self.counts[left] - taken
        self.bytes, self.stream = self.bytes[left], self.stream[end:]
        self.ids = [one for one, stays in zip(self.ids or [], left.tolist(), strict=True) if stays]


def _row_id(places: Sequence[tuple[str, int, int]]) -> str:
    """Return the id of a row: a hash of its records, with the first and last token of each."""
    return hashlib.sha256(canonical_json(places)).hexdigest()[:ID_CHARACTERS]
