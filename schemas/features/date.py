"""Columns of dates."""

import contextlib
import re
import warnings
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from common.sections import NonEmpty
from schemas.features import ScalarFeature


def _can_be_tried(notation: str) -> str:
    """Refuse a format with a directive that stands in it twice, of which strptime makes no pattern."""
    try:
        # No date is empty, and Python's warning of a format without a year is out of place here.
        with contextlib.suppress(ValueError), warnings.catch_warnings(action="ignore"):
            datetime.strptime("", notation)
    except re.error as error:
        raise ValueError(f"not a format of Python's strptime: {error}") from error
    return notation


class DateFeature(ScalarFeature):
    """`[[feature]]` of dates and times: days since 1970-01-01 UTC, and fractions of a day."""

    encode: Literal["date"]
    formats: Annotated[list[Annotated[NonEmpty, AfterValidator(_can_be_tried)]], Field(min_length=1)] = [
        "iso"
    ]
    """Formats in the order of trial: `iso` (ISO 8601), `unix` (seconds since 1970; `unix_ms`, `unix_us` and `unix_ns`
    in smaller units), or a format of Python's strptime, such as `%d.%m.%Y`.
    """
