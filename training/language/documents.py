"""Documents of packed rows: which tokens of a row are whose, and the documents of a split put together again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from common import storage
from common.errors import DataError
from common.storage import Storage
from schemas.manifest import Column, Manifest, read_artifact
from training.input.columns import to_array

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """Packed rows, in the order of the shards."""

    tokens: Ints
    """(rows, length)."""
    documents: Sequence[list[dict[str, Any]]]
    """For each row the parts of documents in it, as in the shards."""


@dataclass
class Sums:
    """Sums over the tokens of one document, its separator included."""

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0


def token_column(manifest: Manifest) -> Column:
    """Return the feature of packed tokens."""
    return next(column for column in manifest.content.columns if column.separator is not None)


def tokenizer_of(manifest: Manifest, options: Storage) -> Tokenizer:
    """Return the tokenizer of the packed tokens. Raises DataError where its artifact is damaged."""
    artifact = read_artifact(manifest, token_column(manifest).artifacts["tokenizer"], options)
    return Tokenizer.from_str(artifact.decode())


def read_rows(manifest: Manifest, split: str, options: Storage) -> Iterator[Rows]:
    """Yield the rows of a split, a row group at a time. Raises DataError for a shard that cannot be read."""
    columns = [token_column(manifest), manifest.column("documents")]
    for shard in manifest.splits[split].shards:
        location = manifest.shard_uri(shard)
        file_system, path = storage.filesystem(location, options)
        try:
            with file_system.open(path, "rb") as opened:
                file = pq.ParquetFile(opened)
                for number in range(file.num_row_groups):
                    table = file.read_row_group(number, columns=[column.name for column in columns])
                    where = f"row group {number} of {location}"
                    tokens, documents = (to_array(table, column, where) for column in columns)
                    yield Rows(tokens.astype(np.int64), documents.tolist())
        except (OSError, pa.ArrowException) as error:
            first = (str(error).splitlines() or [""])[0]
            raise DataError(f"{location} cannot be read ({first}); publish the data set again") from error


def documents(manifest: Manifest, split: str, options: Storage) -> Iterator[tuple[str, Ints]]:
    """Yield the record id and the tokens of each document of a split, without its separator, in their order."""
    separator, parts = token_column(manifest).separator, list[Ints]()
    for rows in read_rows(manifest, split, options):
        for tokens, of_row in zip(rows.tokens, rows.documents, strict=True):
            at = 0
            for part in of_row:
                end = at + part["last"] - part["first"] + 1
                parts.append(tokens[at:end])
                if tokens[end - 1] == separator:
                    yield part["record_id"], np.concatenate(parts)[:-1]
                    parts.clear()
                at = end


def add_rows(sums: dict[str, Sums], nats: Floats, documents: Sequence[list[dict[str, Any]]]) -> None:
    """Add the loss of each token of rows, (rows, length) in nats, to the sums of the documents."""
    before = np.concatenate((np.zeros((len(nats), 1)), np.cumsum(nats, axis=1)), axis=1)
    for row, of_row in enumerate(documents):
        at = 0
        for part in of_row:
            end = at + part["last"] - part["first"] + 1
            of_document = sums.setdefault(part["record_id"], Sums(bytes=part["bytes"]))
            of_document.nats += float(before[row, end] - before[row, at])
            of_document.tokens += end - at
            at = end
