"""Numbers, as float32, scaled where configured (etl/encoders/scalars.py)."""

from etl.encoders.scalars import ScalarEncoder

ARTIFACT = "statistics"

_ENCODER = ScalarEncoder(float)
fit, encode, flags = _ENCODER.fit, _ENCODER.encode, _ENCODER.flags
dtype, shape, vocabulary = _ENCODER.dtype, _ENCODER.shape, _ENCODER.vocabulary
