"""Numbers: decimal commas, thousands separators, units."""

import re

import numpy as np

from etl.normalisers import Normaliser, squeezed
from schemas.features.number import NumberFeature

PLAIN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
GROUPED = re.compile(r"[+-]?\d{1,3}([ ,.'’])\d{3}(?:\1\d{3})*", re.ASCII)
LARGEST = float(np.finfo(np.float32).max)
"""Shards hold 32-bit numbers."""
SPACES = dict.fromkeys(map(ord, "\u00a0\u2009\u202f"), " ")
"""Non-breaking spaces, as used between thousands."""


def normaliser(feature: NumberFeature) -> Normaliser:
    """Return a function that gives Python's notation: the shortest decimals of the same 64-bit number."""
    units = {squeezed(unit).casefold(): factor for unit, factor in feature.units.items()}
    # Longer units first: of `kg` and `g` the former is meant where both would do.
    ordered = sorted(units, key=lambda unit: (-len(unit), unit))

    def normal(value: str) -> str | None:
        # Folded as the units are: `Fuß` gets longer by that, and could not be cut off by their lengths otherwise.
        text, factor = squeezed(value.translate(SPACES)).replace("\u2212", "-").casefold(), 1.0
        for unit in ordered:
            if text.endswith(unit) and len(text) > len(unit):
                text, factor = text[: len(text) - len(unit)].strip(), units[unit]
                break
            if text.startswith(unit) and len(text) > len(unit):
                text, factor = text[len(unit) :].strip(), units[unit]
                break
        plain = without_grouping(text, feature.decimal)
        if plain is None or not PLAIN.fullmatch(plain):
            return None
        number = float(plain) * factor
        return written(number) if abs(number) <= LARGEST else None

    return normal


def written(number: float) -> str:
    """Write a number as `12`, `0.5`, `1e+22`."""
    return repr(number).removesuffix(".0") if number else "0"


def without_grouping(text: str, decimal: str) -> str | None:
    """Return the number with a decimal point and without thousands separators; None where that is ambiguous."""
    if PLAIN.fullmatch(text) and (decimal == "point" or "e" in text.lower()):
        return text
    comma, point = text.count(","), text.count(".")
    if decimal == "auto":
        decimal = _shown_decimal(text, comma, point)
        if not decimal:
            return None
    sign, other = (",", ".") if decimal == "comma" else (".", ",")
    if text.count(sign) > 1:
        return None
    whole, _, decimals = text.partition(sign)
    if any(each in whole for each in (other, " ", "'", "’")):
        if not GROUPED.fullmatch(whole):
            return None
        whole = re.sub(r"[^\d+-]", "", whole)
    return f"{whole}.{decimals}" if decimals else whole


def _shown_decimal(text: str, comma: int, point: int) -> str:
    """Return the decimal sign as far as the value shows it; empty where it does not."""
    if comma and point:
        return "comma" if text.rfind(",") > text.rfind(".") else "point"
    if comma + point == 0:
        return "point"
    if comma + point > 1:  # a sign that occurs twice separates thousands
        return "point" if comma else "comma"
    sign = "," if comma else "."
    whole, decimals = text.split(sign)
    if (
        len(decimals) == 3
        and decimals.isdigit()
        and 1 <= len(whole.lstrip("+-")) <= 3
        and whole.lstrip("+-0")
    ):
        return ""
    return "comma" if comma else "point"
