"""Dates and times, as float32: days since 1970-01-01 in UTC, scaled where that is configured.

What is learned and done is in etl/encoders/scalars.py.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etl.columns.date import days
from etl.encoders import scalars
from schemas.features import DateFeature
from schemas.settings import Storage


def fit(values: Iterable[str | None], feature: DateFeature, options: Storage) -> bytes:
    """See `scalars.fit`."""
    return scalars.fit(values, feature, days)


def encode(values: pa.StringArray, artifact: bytes, feature: DateFeature) -> tuple[pa.Array, pa.Array]:
    """See `scalars.encode`."""
    return scalars.encode(values, artifact, feature, days)


def flags(values: pa.StringArray, artifact: bytes) -> npt.NDArray[np.int32]:
    """See `scalars.flags`."""
    return scalars.flags(values, artifact, days)


def dtype(feature: DateFeature) -> str:
    """Of every element."""
    return "float32"


def shape(feature: DateFeature) -> list[int]:
    """The value, and a mark each for missing values and for outliers, as far as they are asked for."""
    return [scalars.width(feature)]


def vocabulary(artifact: bytes) -> int | None:
    """None: any number may come."""
    return None
