"""Documents of packed rows: which tokens of a row are whose, and the documents of a split put together again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from common.storage import Storage
from schemas.manifest import Column, Manifest, read_artifact
from training.input.columns import to_array
from training.input.shards import read_row_groups

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PackedRows:
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


def read_packed_rows(manifest: Manifest, split: str, options: Storage) -> Iterator[PackedRows]:
    """Yield the rows of a split, a row group at a time. Raises DataError for a shard that cannot be read."""
    columns = [token_column(manifest), manifest.column("documents")]
    for table, where in read_row_groups(manifest, split, columns, options):
        tokens, documents = (to_array(table, column, where) for column in columns)
        yield PackedRows(tokens.astype(np.int64), documents.tolist())


def documents(manifest: Manifest, split: str, options: Storage) -> Iterator[tuple[str, Ints]]:
    """Yield the record id and the tokens of each document of a split, without its separator, in their order."""
    separator, parts = token_column(manifest).separator, list[Ints]()
    for rows in read_packed_rows(manifest, split, options):
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
