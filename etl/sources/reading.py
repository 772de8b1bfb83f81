"""Spark task of `ingest`: read pieces and return their outcomes as Arrow batches.

An outcome is a record, a row of the quarantine, or a piece's report on its file. All three share one narrow schema,
so that one reading of the sources serves the three tables.
"""

import json
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import pyarrow as pa

from etl.images.decoding import Pixels
from etl.images.redaction import without_base64, without_images
from etl.lake.tombstones import FORGOTTEN, FORGOTTEN_DETAIL, NO_TOMBSTONES, Tombstones
from etl.sources.content.archives import stream_of
from etl.sources.content.listing import Member, SourceFile
from etl.sources.content.streams import MAX_RAW_BYTES
from etl.sources.contract import Contract, Problem, UntypedText, WithNames
from etl.sources.files.formats import FilePart, Found, Rejected, Skipped, formats, rejected
from etl.sources.files.parquet import raw_row
from etl.sources.files.pieces import Piece
from schemas.config import Configuration

RECORD, QUARANTINE, FILE = 0, 1, 2
BATCH_BYTES = 8 << 20
BATCH_ROWS = 4096
TASK_BITS = 40
"""Bits of a record's row number within its task; the upper bits number the task."""


def column_name(place: int) -> str:
    """Return the name in an outcome of the configured column at a place of `config.table_columns()`."""
    return f"column_{place}"


def outcome_schema(config: Configuration) -> pa.Schema:
    """Return the columns of an outcome; those that do not belong to its kind are null."""
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
            ("raw", pa.binary()),  # of the quarantine; of a record only where asked for
            ("sha256", pa.string()),
            ("bytes", pa.int64()),  # of the file when it was listed
            ("bytes_read", pa.int64()),  # when it was hashed
            ("modified", pa.timestamp("us", tz="UTC")),
            ("records", pa.int64()),
            ("quarantined", pa.int64()),
            ("damaged", pa.int64()),
            ("from_start", pa.int64()),  # rows that report the whole file as unreadable: 0 or 1
            # In bytes of the content, or in rows where the format has random access; null where unknown.
            ("content_size", pa.int64()),
            ("records_size", pa.int64()),
            ("quarantined_size", pa.int64()),
            ("skipped", pa.string()),  # JSON: what was skipped, by rule
            ("encoding", pa.string()),
            ("lines", pa.int64()),  # of all records
            ("quarantined_lines", pa.int64()),
            *([("image_effects", pa.list_(pa.string()))] if config.image_features() else []),
            *(
                (column_name(place), pa.binary() if column in config.image_columns() else pa.string())
                for place, column in enumerate(config.table_columns())
            ),
        ]
    )


_OF_RECORDS = (
    "row",
    "source_index",
    "source_path",
    "source_position",
    "source_bytes",
    "record_id",
    "time_seconds",
)


class Reader:
    """Reader of pieces into batches of outcomes, each of bounded size.

    With `raw_of` it gives only the records with these row numbers, along with their raw bytes.
    """

    def __init__(
        self,
        config: Configuration,
        raw_of: frozenset[int] | None = None,
        tombstones: Tombstones = NO_TOMBSTONES,
    ) -> None:
        self.config = config
        self.raw_of = raw_of
        self.tombstones = tombstones
        self.contract = Contract(config)
        self.schema = outcome_schema(config)
        self.of_records = [
            *_OF_RECORDS,
            *(["image_effects"] if config.image_features() else []),
            *(column_name(place) for place in range(len(config.table_columns()))),
        ]
        self.next_row = 0
        self.given: dict[str, object] = {}
        """Columns that the folders of the file at hand name."""
        self.hashes: dict[tuple[str, Member | None], str | None] = {}
        """SHA-256, by location and member of an archive, of whole files that may contain erased records."""
        self._clear()

    def _clear(self) -> None:
        self.records: list[tuple[object, ...]] = []
        """Columns `of_records` of each record, in that order."""
        self.others: list[dict[str, object]] = []
        self.held = 0

    def batches(self, task: int, pieces: list[Piece]) -> Iterator[pa.RecordBatch]:
        """Yield the outcomes of a task's pieces; the same task and files give the same row numbers."""
        self.next_row = task << TASK_BITS
        for piece in pieces:
            yield from self._piece(piece)
        yield from self._flush()

    def _piece(self, piece: Piece) -> Iterator[pa.RecordBatch]:
        settings = self.config.source[piece.file.source_index]
        part = FilePart.of(piece.file, settings, self.config.storage, piece.start, piece.end)
        self.given = {
            name: None if value is None else UntypedText(value)
            for name, value in piece.file.columns
            if name in self.contract.needed
        }
        random_access = formats()[settings.format].random_access
        records = quarantined = damaged = from_start = records_size = quarantined_size = lines = 0
        left_out: Counter[str] = Counter()
        detail: str | None = None
        if piece.hash_only:
            if self.raw_of is not None:
                return
            part.open()
        else:
            obstacle = piece.file.obstacle
            rows = (
                [Rejected(0, b"", obstacle.reason, obstacle.detail, damaged=True)]
                if obstacle is not None
                else formats()[settings.format].read(part, settings, self.contract)
            )
            for row in rows:
                if isinstance(row, Skipped):
                    left_out[row.rule] += row.size
                    continue
                records += 1
                # The common case, told without a further call.
                size = row.length if type(row) is Found and not random_access else size_of(row, random_access)
                if part.transcoded is not None:
                    row = part.in_file(row)
                problem = self._problem(piece, row)
                if problem is None:
                    records_size += size
                else:
                    problem = part.explained(problem)
                    quarantined += 1
                    if problem.reason == FORGOTTEN:
                        left_out[FORGOTTEN] += size
                    else:
                        quarantined_size += size
                        lines += 1 if part.lines is None else lines_of(row.raw)
                    damaged += problem.damaged
                    from_start += says_nothing_is_read(problem)
                    detail = problem.detail if problem.damaged else detail
                    self._reject(piece, problem)
                if self.held >= BATCH_BYTES or len(self.records) + len(self.others) >= BATCH_ROWS:
                    yield from self._flush()
        content = part.content() if not piece.hash_only and self.raw_of is None else 0
        if piece.end is not None and not random_access:
            content = None if damaged else 0  # the piece that only hashes tells the size of the file
        sha256, bytes_read = None, None
        if part.stream is not None:
            # The stream has seen only a part of a range; the hash then comes from the piece that only hashes.
            if piece.end is None and self.raw_of is None:
                part.stream.finish()
                sha256 = part.stream.sha256
                bytes_read = part.stream.size if sha256 is not None else None
                if piece.hash_only and not random_access:
                    content = bytes_read
            part.close()
        self._add(
            kind=FILE,
            source_index=piece.file.source_index,
            source_path=piece.file.path,
            detail=detail,
            sha256=sha256,
            bytes=piece.file.bytes,
            bytes_read=bytes_read,
            modified=piece.file.modified,
            records=records,
            quarantined=quarantined,
            damaged=damaged,
            from_start=from_start,
            content_size=content,
            records_size=records_size,
            quarantined_size=quarantined_size,
            skipped=json.dumps([{"rule": rule, "size": size} for rule, size in left_out.items()]),
            encoding=part.encoding,
            lines=records if part.lines is None else part.lines,
            quarantined_lines=lines,
        )

    def _problem(self, piece: Piece, row: Found | Rejected) -> Rejected | None:
        """Add a record, or return the reason why there is none."""
        if self.contract.images and isinstance(row, Rejected):
            row = replace(row, raw=without_base64(row.raw))
        if self.tombstones:
            is_file = isinstance(row, Rejected) and row.damaged  # no record, but the rest of a file
            raw = row.raw
            if self.tombstones.raws and isinstance(row, Found):
                raw = self._raw(row)[:MAX_RAW_BYTES]
            if self.tombstones.has_raw(raw):
                return replace(row, raw=b"") if isinstance(row, Rejected) and is_file else forgotten(row)
            if isinstance(row, Rejected) and not is_file and self._was_erased(piece.file, row.position):
                return forgotten(row)
        return self._record(piece, row) if isinstance(row, Found) else row

    def _was_erased(self, file: SourceFile, position: int, record_id: str | None = None) -> bool:
        """Return True for an erased record, by its id, or by its place in a file with this content."""
        if not self.tombstones:
            return False
        if record_id is not None and self.tombstones.has_record(record_id):
            return True
        return self.tombstones.has_place(
            file.path, file.twin, position, file.bytes, lambda: self._sha256(file)
        )

    def _sha256(self, file: SourceFile) -> str | None:
        """Return the SHA-256 of a whole file, read once for it; None where it is unreadable."""
        if (file.location, file.member) not in self.hashes:
            with stream_of(file, self.config.storage) as stream:
                stream.finish()
                self.hashes[file.location, file.member] = stream.sha256
        return self.hashes[file.location, file.member]

    def _record(self, piece: Piece, found: Found) -> Rejected | None:
        """Add a record, or return why it violates the contract or was erased."""
        file = piece.file
        values = with_given(found.values, self.given) if self.given else found.values
        checked = self.contract.check(values, file.path, file.twin, found.position)
        record_id = None if isinstance(checked, Problem) else checked.record_id
        if self._was_erased(file, found.position, record_id):
            return forgotten(found)
        if isinstance(checked, Problem):
            raw = self._raw(found)
            return rejected(found.position, raw, checked.reason, checked.detail)
        row = self.next_row
        self.next_row += 1
        if self.raw_of is not None:
            if row in self.raw_of:
                raw = self._raw(found)[:MAX_RAW_BYTES]
                self.others.append(
                    {
                        "kind": RECORD,
                        "row": row,
                        "source_index": file.source_index,
                        "source_path": file.path,
                        "source_position": found.position,
                        "source_bytes": found.length,
                        "record_id": checked.record_id,
                        "raw": raw,
                    }
                )
                self.held += len(raw)
            return None
        self.records.append(
            (
                row,
                file.source_index,
                file.path,
                found.position,
                found.length,
                checked.record_id,
                checked.time_seconds,
                *([checked.effects] if self.contract.images else []),
                *checked.values,
            )
        )
        self.held += sum(len(value) for value in checked.values if value is not None)
        return None

    def _raw(self, found: Found) -> bytes:
        """Return the raw bytes of a record for the quarantine."""
        images, values = self.contract.images, found.values
        if any(not isinstance(values.get(name), Pixels) for name in images):
            return without_base64(raw_row(without_images(values, images)))
        return found.raw or raw_row(values)

    def _reject(self, piece: Piece, problem: Rejected) -> None:
        self._add(
            kind=QUARANTINE,
            source_index=piece.file.source_index,
            source_path=piece.file.path,
            source_position=problem.position,
            reason=problem.reason,
            detail=problem.detail,
            raw=None if problem.reason == FORGOTTEN else problem.raw,
            from_start=int(says_nothing_is_read(problem)),
        )
        self.held += len(problem.raw) if self.raw_of is None else 0

    def _add(self, **values: object) -> None:
        """Add an outcome that is no record."""
        if self.raw_of is None:
            self.others.append(values)

    def _flush(self) -> Iterator[pa.RecordBatch]:
        """Yield the collected outcomes: one batch of records and one of the others."""
        records, others = self.records, self.others
        self._clear()
        if records:
            # There are many of them, and most of the columns are null.
            columns = dict(zip(self.of_records, zip(*records, strict=True), strict=True))
            arrays = [
                pa.array(columns[field.name], field.type)
                if field.name in columns
                else pa.nulls(len(records), field.type)
                for field in self.schema
            ]
            arrays[0] = pa.repeat(pa.scalar(RECORD, self.schema[0].type), len(records))
            yield pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        if others:
            yield pa.RecordBatch.from_pylist(others, schema=self.schema)


def with_given(values: Mapping[str, object], given: Mapping[str, object]) -> Mapping[str, object]:
    """Return a record with the columns that its folders name; a column of its own wins, even a null."""
    whole = {**given, **values}
    return WithNames(whole, values.names) if isinstance(values, WithNames) else whole


def size_of(row: Found | Rejected, random_access: bool) -> int:
    """Return the bytes (with random access: the rows) of the content that a row stands for."""
    if isinstance(row, Found):
        return 1 if random_access else row.length
    if row.damaged:
        return row.size or 0
    if random_access:
        return 1
    return len(row.raw) if row.size is None else row.size


def lines_of(raw: bytes) -> int:
    """Return the number of lines of a raw record."""
    inner = raw.rstrip(b"\r\n")
    return 1 + max(inner.count(b"\n"), inner.count(b"\r"))


def says_nothing_is_read(row: Rejected) -> bool:
    """Return True where a row stands for a file as a whole; such rows of its pieces merge into one."""
    return row.damaged and row.position == 0


def forgotten(row: Found | Rejected) -> Rejected:
    """Return the row in place of an erased record: it is still in its file, but nothing of it reaches a table."""
    return Rejected(row.position, b"", FORGOTTEN, FORGOTTEN_DETAIL)


class ReadTasks:
    """Function for `mapInArrow`: each row of the column `task` is a number and a pickled list of pieces."""

    def __init__(
        self,
        config: Configuration,
        raw_of: frozenset[int] | None = None,
        tombstones: Tombstones = NO_TOMBSTONES,
    ) -> None:
        self.config, self.raw_of, self.tombstones = config, raw_of, tombstones

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        reader = Reader(self.config, self.raw_of, self.tombstones)
        for batch in batches:
            for number, pieces in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
                yield from reader.batches(number, pickle.loads(pieces))
