"""Contents that records are compared by, one module a kind: texts, images, rows.

`etl/duplicates/contents/<kind>.py` has one subclass of `Content`. The settings of a kind of feature name the content
of its columns (`compared_as`). What is found by a content goes through the same stages whatever it is: exact duplicates
share a hash, near-duplicates share an LSH bucket and are verified, and clusters are the connected components.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from common import kinds
from schemas.config import Configuration

SKETCH = pa.schema(
    [
        ("length", pa.int32()),  # by which the longest of several duplicates survives
        ("content_hash", pa.binary()),
        # False where the task has sketched that content before: such a row has no signs, bands and sketch.
        ("sketch_owner", pa.bool_()),
        ("signs", pa.int64()),
        ("bands", pa.list_(pa.int64())),
        ("sketch", pa.binary()),  # as in silver/signatures
    ]
)
Highest = Callable[[pa.RecordBatch], npt.NDArray[np.float64]]


class Content(ABC):
    """Kind of content that records are compared by."""

    part_bytes = 1 << 20
    """Bytes of the columns that are sketched at a time."""
    measure = "Jaccard similarity"
    """Name of what `highest` gives."""

    def __init__(self, config: Configuration) -> None:
        self.config, self.settings = config, config.deduplicate
        self.columns: Sequence[str] = config.compared_columns()
        """Columns of silver/fields."""

    @abstractmethod
    def sketch(self, batch: pa.RecordBatch, seen: set[bytes]) -> Iterator[pa.Array]:
        """Yield the columns of SKETCH for a batch of `columns`; add to `seen` the hashes that the task has sketched."""

    @abstractmethod
    def connect(self, block: pa.Table) -> pa.Table:
        """Return columns `content_hash`, `component` of near-duplicates (etl/duplicates/connecting.py).

        `block`: `content_hash`, `signs`, `bands` and `sketch` of silver/signatures.
        """

    @property
    def limit(self) -> float:
        """Similarity, as of `highest`, from which on two contents are near-duplicates."""
        return self.settings.similarity

    @property
    def explained(self) -> str:
        """Meaning of what `highest` gives, as the beginning of a sentence."""
        return f"{self.measure} of the sets of shingles"

    def highest(self, sample: pa.Table) -> Highest | None:
        """Return a function from a batch of `sketch`, `signs` to the highest similarity, 0 to 1, of each of the sample.

        `sample` has the columns of silver/signatures; the result is (sample,) float64. None: there is no measure.
        """
        return None


def content_of(config: Configuration) -> Content:
    """Return what the records of a data set are compared by."""
    found = kinds.subclass("etl.duplicates.contents", config.compared_as(), Content)
    return cast(type[Content], found)(config)
