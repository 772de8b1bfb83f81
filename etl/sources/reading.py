"""What a Spark task of `ingest` does: reads its pieces and gives their outcomes as Arrow batches.

An outcome is a record, a row of the quarantine, or what a piece says about its file. All three share one narrow
schema, so that the sources are read once for the three tables.
"""

import pickle
from collections.abc import Iterable, Iterator

import pyarrow as pa

from etl.sources.contract import Contract, Problem
from etl.sources.formats import Found, Part, Rejected, formats, rejected
from etl.sources.parquet import raw_row
from etl.sources.pieces import Piece
from etl.sources.streams import MAX_RAW_BYTES
from schemas.config import Configuration

RECORD, QUARANTINE, FILE = 0, 1, 2
BATCH_BYTES = 8 << 20
BATCH_ROWS = 4096


def column_name(place: int) -> str:
    """The name in an outcome of the configured column at a place of `config.table_columns()`."""
    return f"column_{place}"


def outcome_schema(config: Configuration) -> pa.Schema:
    """The columns of an outcome; those that do not belong to its kind are null."""
    return pa.schema(
        [
            ("kind", pa.int8()),  # RECORD, QUARANTINE or FILE
            ("row", pa.int64()),  # a number of its own for each record
            ("source_index", pa.int32()),
            ("source_path", pa.string()),
            ("source_position", pa.int64()),
            ("source_bytes", pa.int64()),
            ("record_id", pa.string()),
            ("time_seconds", pa.float64()),
            ("reason", pa.string()),
            ("detail", pa.string()),
            (
                "raw",
                pa.binary(),
            ),  # of the quarantine; of a record where its id could turn out to be a repeated one
            ("sha256", pa.string()),
            ("bytes", pa.int64()),  # of the file when it was listed
            ("bytes_read", pa.int64()),  # when it was hashed
            ("modified", pa.timestamp("us", tz="UTC")),
            ("records", pa.int64()),
            ("quarantined", pa.int64()),
            ("damaged", pa.int64()),
            *((column_name(place), pa.string()) for place in range(len(config.table_columns()))),
        ]
    )


class Reader:
    """Reads pieces into batches of outcomes, each of bounded size."""

    def __init__(self, config: Configuration) -> None:
        self.config = config
        self.contract = Contract(config)
        self.keeps_raw = config.columns.id is not None
        self.schema = outcome_schema(config)
        self.next_row = 0
        self._clear()

    def _clear(self) -> None:
        self.columns: list[list[object]] = [[] for _ in self.schema.names]
        self.held = 0

    def batches(self, task: int, pieces: list[Piece]) -> Iterator[pa.RecordBatch]:
        """The outcomes of a task's pieces."""
        self.next_row = task << 40
        for piece in pieces:
            yield from self._piece(piece)
        if self.columns[0]:
            yield self._batch()

    def _piece(self, piece: Piece) -> Iterator[pa.RecordBatch]:
        settings = self.config.source[piece.file.source_index]
        part = Part(piece.file.location, self.config.storage, piece.start, piece.end)
        records = quarantined = damaged = 0
        if piece.hash_only:
            part.open()
        else:
            for row in formats()[settings.format].read(part, settings, self.contract):
                records += 1
                problem = self._record(piece, row) if isinstance(row, Found) else row
                if problem is not None:
                    quarantined += 1
                    damaged += problem.damaged
                    self._reject(piece, problem)
                if self.held >= BATCH_BYTES or len(self.columns[0]) >= BATCH_ROWS:
                    yield self._batch()
        sha256, size = None, None
        if part.stream is not None:
            # Of a range the stream has seen only a part; the hash then comes from the piece that only hashes.
            if piece.end is None:
                part.stream.finish()
                sha256, size = part.stream.sha256, part.stream.size
            part.close()
        self._add(
            kind=FILE,
            source_index=piece.file.source_index,
            source_path=piece.file.path,
            sha256=sha256,
            bytes=piece.file.bytes,
            bytes_read=size if sha256 is not None else None,
            modified=piece.file.modified,
            records=records,
            quarantined=quarantined,
            damaged=damaged,
        )

    def _record(self, piece: Piece, found: Found) -> Rejected | None:
        """Adds a record, or returns why it does not meet the contract."""
        file = piece.file
        checked = self.contract.check(found.values, file.path, file.twin, found.position)
        raw = found.raw
        if not raw and (self.keeps_raw or isinstance(checked, Problem)):
            raw = raw_row(found.values)
        if isinstance(checked, Problem):
            return rejected(found.position, raw, checked.reason, checked.detail)
        self._add(
            kind=RECORD,
            row=self.next_row,
            source_index=file.source_index,
            source_path=file.path,
            source_position=found.position,
            source_bytes=found.length,
            record_id=checked.record_id,
            time_seconds=checked.time_seconds,
            raw=raw[:MAX_RAW_BYTES] if self.keeps_raw else None,
            **{column_name(place): value for place, value in enumerate(checked.values)},
        )
        self.next_row += 1
        self.held += sum(map(len, checked.values)) + (len(raw) if self.keeps_raw else 0)
        return None

    def _reject(self, piece: Piece, problem: Rejected) -> None:
        self._add(
            kind=QUARANTINE,
            source_index=piece.file.source_index,
            source_path=piece.file.path,
            source_position=problem.position,
            reason=problem.reason,
            detail=problem.detail,
            raw=problem.raw,
        )
        self.held += len(problem.raw)

    def _add(self, **values: object) -> None:
        for name, column in zip(self.schema.names, self.columns, strict=True):
            column.append(values.get(name))

    def _batch(self) -> pa.RecordBatch:
        arrays = [
            pa.array(column, field.type) for column, field in zip(self.columns, self.schema, strict=True)
        ]
        self._clear()
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


class ReadTasks:
    """The function for `mapInArrow`: each row of the column `task` is a number and a pickled list of pieces."""

    def __init__(self, config: Configuration) -> None:
        self.config = config

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        reader = Reader(self.config)
        for batch in batches:
            for number, pieces in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
                yield from reader.batches(number, pickle.loads(pieces))
