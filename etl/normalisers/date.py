"""Dates and times, in several notations, as ISO 8601 in UTC."""

from datetime import UTC, datetime, timedelta

from etl.normalisers import Normaliser, squeezed
from etl.normalisers.notations import DECIMAL, ISO_8601
from schemas.features.date import DateFeature

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PER_SECOND = {"unix": 1, "unix_ms": 10**3, "unix_us": 10**6, "unix_ns": 10**9}
"""Units of the numbers since 1970 by notation."""


def normaliser(feature: DateFeature) -> Normaliser:
    """Return a function that gives `2024-03-01` for a day, `2024-03-01T12:30:00Z` for a moment; no zone means UTC."""

    def normal(value: str) -> str | None:
        text = squeezed(value)
        for notation in feature.formats:
            moment = parsed(text, notation)
            if moment is not None:
                return written(moment)
        return None

    return normal


def parsed(text: str, notation: str) -> datetime | None:
    """Return the moment in UTC, None where the text is not in that notation or no such day exists."""
    try:
        if notation in PER_SECOND:
            number = float(text) if DECIMAL.fullmatch(text) else None
            return None if number is None else EPOCH + timedelta(seconds=number / PER_SECOND[notation])
        if notation == "iso":
            moment = datetime.fromisoformat(text) if ISO_8601.fullmatch(text) else None
        else:
            moment = datetime.strptime(text, notation)
    except (ValueError, OverflowError):
        return None
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else _in_utc(moment)


def _in_utc(moment: datetime) -> datetime | None:
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # at the ends of the calendar
        return None


def written(moment: datetime) -> str:
    """Write a moment in UTC; one at midnight as its day."""
    if moment.timetz().replace(tzinfo=None) == datetime.min.time():
        return moment.date().isoformat()
    return moment.replace(tzinfo=None).isoformat() + "Z"


def days(normal: str) -> float:
    """Return the days since 1970-01-01 in UTC of a value in normal form."""
    moment = datetime.fromisoformat(normal)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (moment - EPOCH) / timedelta(days=1)
