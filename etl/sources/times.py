"""Times of records as seconds since 1970-01-01 UTC: ISO 8601, numbers in a unit, and formats of Python's strptime.

A moment without a zone is taken as UTC. Times outside the years 1900 to 9999 are refused: they come from another unit
or from a placeholder, and would order records wrongly.
"""

import math
from datetime import UTC, datetime

from etl.normalisers.notations import DECIMAL, ISO_8601

Refusal = tuple[str, str]
"""Reason and detail, for the quarantine; the detail follows the name of the column."""

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC).timestamp()
END = datetime(9999, 12, 31, tzinfo=UTC).timestamp() + 86_400
"""First second after the year 9999."""
LIKELY = (1e8, 9.2e9)
"""Seconds of the years 1973 to 2261. They span less than a factor of 1,000, so that a number is likely in one unit."""


def of_number(text: str, unit: str) -> float | Refusal:
    """Return a decimal number of a unit since 1970 in seconds."""
    if not DECIMAL.fullmatch(text):
        return "invalid_time", "is not a decimal number"
    number = float(text)
    if not math.isfinite(number):
        return "invalid_time", "is not a finite number"
    seconds = number / PER_SECOND[unit]
    return seconds if EARLIEST <= seconds < END else _out_of_range(number, unit)


def _out_of_range(number: float, unit: str) -> Refusal:
    # Two digits of it tell the unit, and repeat no more of the record than that.
    shown = f"{float(f'{number:.1e}'):,.0f}" if abs(number) < 1e24 else f"{number:.1e}"
    likely = [u for u, per_second in PER_SECOND.items() if LIKELY[0] <= number / per_second < LIKELY[1]]
    cure = (
        f'looks like {UNITS[likely[0]]}: columns.time_unit = "{likely[0]}"'
        if likely
        else "is no usual time: columns.time_unit or columns.time_format says how it is written"
    )
    return "time_out_of_range", f"lies outside the years 1900 to 9999 in {UNITS[unit]}: about {shown} {cure}"


def of_iso_8601(text: str) -> float | Refusal | None:
    """Return an ISO 8601 date or time in seconds, None where the text is not in that notation."""
    if not ISO_8601.fullmatch(text):
        return None
    try:
        return _in_years(datetime.fromisoformat(text))
    except ValueError:
        return "invalid_time", "is not a date or time that exists"


def written(text: str, zone: str = "") -> str:
    """Return a date or time without zone that its format types, in the one notation that equal moments have."""
    whole, point, fraction = text.replace(" ", "T").partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}{point}{fraction}{zone}" if fraction else f"{whole}{zone}"


def of_format(text: str, notation: str) -> float | Refusal:
    """Return a text in a format of strptime in seconds."""
    try:
        return _in_years(datetime.strptime(text, notation))
    except ValueError:
        return "invalid_time", "does not have the format of columns.time_format"


def _in_years(moment: datetime) -> float | Refusal:
    # The zone may move a moment at the ends of the calendar out of it, which a difference in seconds can bear.
    seconds = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    if EARLIEST <= seconds < END:
        return seconds
    return "time_out_of_range", "lies outside the years 1900 to 9999, and may be a placeholder"
