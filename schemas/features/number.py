"""Columns of numbers."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.features import ScalarFeature


class NumberFeature(ScalarFeature):
    """`[[feature]]` of numbers."""

    encode: Literal["number"]
    decimal: Literal["point", "comma", "auto"] = "point"
    """Decimal sign; the other sign, spaces and apostrophes may separate thousands.

    `auto`: decide by the value; a single sign before exactly three digits is ambiguous, and invalid.
    """
    units: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Units allowed before or behind a number (case does not count), each with its factor."""
