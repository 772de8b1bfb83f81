"""Encoders, one module a kind of feature: what it learns from the training split, and how it turns a column into
rows.
"""

from collections.abc import Iterable
from typing import Any, Protocol

import pyarrow as pa

from common import kinds
from common.storage import Storage
from schemas.features import FeatureSettings


class Encoder(Protocol):
    """Interface of a module in this folder, named after its kind."""

    ARTIFACT: str
    """Purpose of its artifact in the manifest: tokenizer, statistics, categories …"""

    def fit(self, values: Iterable[Any], feature: Any, options: Storage) -> bytes:
        """Learn from the training split alone (or load the configured file); return the artifact.

        Values of typed columns are in normal form (etl/normalisers), None where missing; those of booleans and
        categories may come as a Counter. Where the module has a function `summarise(values, feature)`, which turns a
        batch into bytes, it gets these instead.
        """
        ...

    def encode(self, values: pa.Array, artifact: bytes, feature: Any) -> tuple[pa.Array, ...]:
        """Return the column for the shards, `binary`, and an `int32` for each row.

        The latter is the number of tokens before truncation for texts, flags (etl/encoders/scalars.py) for typed
        columns; a third, `int64`, has the bytes of texts whose tokens are packed.
        """
        ...

    def dtype(self, feature: Any) -> str:
        """Return numpy's name of the element type."""
        ...

    def shape(self, feature: Any) -> list[int]:
        """Return the shape of one row."""
        ...

    def vocabulary(self, artifact: bytes) -> int | None:
        """Return the number of distinct values of an element, where that is bounded."""
        ...


def encoder_of(feature: FeatureSettings) -> Encoder:
    """Return the encoder of a `[[feature]]`: the module of its kind in this folder, or a third party's."""
    needed = ("ARTIFACT", "fit", "encode", "dtype", "shape", "vocabulary")
    encoder: Encoder = kinds.module("etl.encoders", feature.encode, *needed)
    return encoder
