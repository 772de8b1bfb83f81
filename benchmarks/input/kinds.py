"""Kinds of generated rows: texts as token ids, images, and tables of numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]
"""(rows, *shape)."""

VOCABULARY = 8192
LENGTH = 128
COLUMNS = 20


@dataclass(frozen=True)
class Kind:
    """What a row holds. Several features share the elements of a row: each is one of them."""

    dtype: str
    shape: tuple[int, ...]
    feature: str
    """Keys of each `[[feature]]` but its name and column."""
    draw: Callable[[int, int], Values]
    """From rows and seed."""
    rows: int
    """Rows to generate, at most."""
    variants: dict[str, int]
    """Rows of a row group of the shards, by variant."""
    plain: str
    """How users of pyarrow alone would store a row."""
    features: int = 1
    vocabulary: int | None = None


def tokens(rows: int, seed: int = 0) -> npt.NDArray[np.uint16]:
    """Draw token ids by Zipf's law (exponent 1) over the vocabulary without the padding; shape (rows, 128), uint16."""
    weights = 1 / np.arange(1, VOCABULARY)
    bounds = np.cumsum(weights / weights.sum())
    drawn = np.random.default_rng(seed).random((rows, LENGTH), dtype=np.float32)
    return np.minimum(1 + np.searchsorted(bounds, drawn), VOCABULARY - 1).astype(np.uint16)


def images(rows: int, seed: int, side: int, channels: int) -> npt.NDArray[np.uint8]:
    """Draw images of 7 × 7 even patches with noise, which LZ4 compresses as little as photographs.

    Shape (rows, side, side, channels), uint8.
    """
    random = np.random.default_rng(seed)
    found = np.empty((rows, side, side, channels), dtype=np.uint8)
    patch = np.ones((1, side // 7, side // 7, 1), dtype=np.uint8)
    for image in found:  # one at a time, for the sake of memory
        image[...] = np.kron(random.integers(0, 192, (7, 7, channels), dtype=np.uint8), patch[0])
        image += random.integers(0, 64, image.shape, dtype=np.uint8)
    return found


def table(rows: int, seed: int) -> npt.NDArray[np.float32]:
    """Draw normal numbers; shape (rows, 20), float32."""
    return np.random.default_rng(seed).standard_normal((rows, COLUMNS), dtype=np.float32)


TOKENS = Kind(
    "uint16",
    (LENGTH,),
    f"vocabulary = {VOCABULARY}\nlength = {LENGTH}",
    tokens,
    10**9,
    {"shards_2048": 2048, "shards_512": 512},  # 512 is the product's default
    "list<int32>",
    vocabulary=VOCABULARY,
)
KINDS = {
    "images_28": Kind(
        "uint8",
        (28, 28, 1),
        'encode = "image"\nsize = 28\nchannels = 1',
        lambda rows, seed: images(rows, seed, 28, 1),
        100_000,
        {"shards": 1024},
        "binary",
    ),
    "images_224": Kind(
        "uint8",
        (224, 224, 3),
        'encode = "image"\nsize = 224',
        lambda rows, seed: images(rows, seed, 224, 3),
        3_000,
        {"shards": 26},  # the product's default
        "binary",
    ),
    "table": Kind(
        "float32",
        (COLUMNS,),
        'encode = "number"',
        table,
        400_000,
        {"shards": 8192},
        "20 float columns",
        features=COLUMNS,
    ),
}
"""By the name of the data set; all others hold tokens."""


def kind_of(data_set: str) -> Kind:
    return KINDS.get(data_set, TOKENS)
