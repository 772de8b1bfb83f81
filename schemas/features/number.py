"""Columns of numbers."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.features import ScalarFeature


class NumberFeature(ScalarFeature):
    """A `[[feature]]` of numbers."""

    encode: Literal["number"]
    decimal: Literal["point", "comma", "auto"] = "point"
    """Which sign begins the decimals; the other one, spaces and apostrophes may stand between thousands. `auto`: what
    the value itself shows; one sign before exactly three digits shows nothing, and is invalid."""
    units: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}
    """Units that may stand before or behind a number (case does not count), each with the factor it multiplies by."""
