"""Dates and times, as float32: days since 1970-01-01 in UTC, scaled where configured (etl/encoders/scalars.py)."""

from etl.encoders.scalars import ScalarEncoder
from etl.normalisers.date import days

ARTIFACT = "statistics"

_ENCODER = ScalarEncoder(days)
fit, encode, flags = _ENCODER.fit, _ENCODER.encode, _ENCODER.flags
dtype, shape, vocabulary = _ENCODER.dtype, _ENCODER.shape, _ENCODER.vocabulary
