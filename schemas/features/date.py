"""Columns of dates."""

from typing import Annotated, Literal

from pydantic import Field

from common.sections import NonEmpty
from schemas.features import ScalarFeature


class DateFeature(ScalarFeature):
    """`[[feature]]` of dates and times: days since 1970-01-01 UTC, and fractions of a day."""

    encode: Literal["date"]
    formats: Annotated[list[NonEmpty], Field(min_length=1)] = ["iso"]
    """Formats in the order of trial: `iso` (ISO 8601), `unix` (seconds since 1970; `unix_ms`, `unix_us` and `unix_ns`
    in smaller units), or a format of Python's strptime, such as `%d.%m.%Y`.
    """
