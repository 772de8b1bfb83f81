"""One module a kind of feature: what it learns from the training split, and how it turns a column into rows."""

import importlib
from collections.abc import Iterable
from typing import Any, Protocol

import pyarrow as pa

from schemas.settings import AnyFeature, Storage


class Encoder(Protocol):
    """What a module in this folder has, under the name of its kind."""

    def fit(self, texts: Iterable[str], feature: Any, options: Storage) -> bytes:
        """Learns from the training split alone (or loads what the configuration names); returns the artifact."""
        ...

    def encode(self, texts: pa.Array, artifact: bytes, feature: Any) -> tuple[pa.Array, pa.Array]:
        """The column for the shards, `binary`, and each row's size before truncation, `int32`."""
        ...

    def dtype(self, feature: Any) -> str:
        """numpy's name of one element."""
        ...

    def shape(self, feature: Any) -> list[int]:
        """The shape of one row."""
        ...

    def vocabulary(self, artifact: bytes) -> int | None:
        """The number of distinct values of an element, where that is bounded."""
        ...


ARTIFACT_PURPOSE = {"tokens": "tokenizer"}
"""What the artifact of a kind is called in the manifest."""


def encoder_of(feature: AnyFeature) -> Encoder:
    """The module `etl.encoders.<kind>` for a `[[feature]]`; the configuration knows only kinds that exist."""
    module: Any = importlib.import_module(f"etl.encoders.{feature.encode}")
    encoder: Encoder = module
    return encoder
