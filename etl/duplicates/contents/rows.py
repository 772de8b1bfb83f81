"""Whole rows: equal in all columns but the id and the label, in the notation that `clean` brings values into."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from etl.duplicates.contents import Content, owners


class Rows(Content):
    """All configured columns of a record but its id and its label."""

    def sketch(self, batch: pa.RecordBatch, seen: set[bytes]) -> Iterator[pa.Array]:
        count = len(batch)
        hashes = [
            row_hash(row) for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        ]
        yield pa.array(np.zeros(count, dtype=np.int32))
        yield pa.array(hashes, pa.binary())
        yield pa.array(owners(hashes, seen))
        yield pa.array(np.zeros(count, dtype=np.int64))
        yield pa.array([[]] * count, pa.list_(pa.int64()))
        yield pa.array([b""] * count, pa.binary())

    def connect(self, block: pa.Table) -> pa.Table:
        return block.select(["content_hash"]).append_column("component", block["content_hash"]).slice(0, 0)


def row_hash(values: tuple[str | None, ...]) -> bytes:
    """Return 128 bits (BLAKE2b, RFC 7693) of values, each after its length; a missing value has one of its own."""
    digest = hashlib.blake2b(digest_size=16)
    for value in values:
        encoded = b"" if value is None else value.encode()
        digest.update((-1 if value is None else len(encoded)).to_bytes(8, "little", signed=True) + encoded)
    return digest.digest()
