"""Numbers, as float32. What is learned and done is in etl/encoders/scalars.py."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etl.encoders import scalars
from schemas.features import NumberFeature
from schemas.settings import Storage


def fit(values: Iterable[str | None], feature: NumberFeature, options: Storage) -> bytes:
    """See `scalars.fit`."""
    return scalars.fit(values, feature, float)


def encode(values: pa.StringArray, artifact: bytes, feature: NumberFeature) -> tuple[pa.Array, pa.Array]:
    """See `scalars.encode`."""
    return scalars.encode(values, artifact, feature, float)


def flags(values: pa.StringArray, artifact: bytes) -> npt.NDArray[np.int32]:
    """See `scalars.flags`."""
    return scalars.flags(values, artifact, float)


def dtype(feature: NumberFeature) -> str:
    """Of every element."""
    return "float32"


def shape(feature: NumberFeature) -> list[int]:
    """The value, and a mark each for missing values and for outliers, as far as they are asked for."""
    return [scalars.width(feature)]


def vocabulary(artifact: bytes) -> int | None:
    """None: any number may come."""
    return None
