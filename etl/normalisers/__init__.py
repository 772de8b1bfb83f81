"""Typed columns: one module a kind, which brings source values into one notation.

`normaliser(feature)` returns a function from a value in bronze to its normal form, or None where it cannot be parsed:
numbers as Python writes them, dates in ISO 8601, `true` and `false`, names of categories.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from common import kinds
from schemas.features import TypedFeature

Normaliser = Callable[[str], str | None]


def normaliser(feature: TypedFeature) -> Normaliser:
    """Return the normaliser of a typed `[[feature]]`; for a kind without a module here it only squeezes white space."""
    if feature.encode not in kinds.modules("etl.normalisers"):
        return squeezed
    made: Normaliser = kinds.module("etl.normalisers", feature.encode, "normaliser").normaliser(feature)
    return made


@dataclass(frozen=True)
class Normalised:
    """Column of n rows in normal form, null where missing; bool (n,) masks of missing, invalid and changed values."""

    values: pa.StringArray
    missing: npt.NDArray[np.bool_]
    invalid: npt.NDArray[np.bool_]
    changed: npt.NDArray[np.bool_]


class ColumnNormaliser:
    """Normaliser of one typed column; it parses each distinct value of a batch once."""

    def __init__(self, feature: TypedFeature) -> None:
        self.feature = feature
        self.normal = normaliser(feature)
        self.missing = frozenset(squeezed(value).casefold() for value in feature.missing_values)

    def __call__(self, column: pa.StringArray) -> Normalised:
        encoded = column.dictionary_encode()
        distinct: list[str] = encoded.dictionary.to_pylist()
        lacking = np.array([squeezed(value).casefold() in self.missing for value in distinct], dtype=bool)
        normal = [
            None if lacks else self.normal(value) for value, lacks in zip(distinct, lacking, strict=True)
        ]
        wrong = np.array([value is None for value in normal], dtype=bool) & ~lacking
        other = np.array(
            [new is not None and new != old for old, new in zip(distinct, normal, strict=True)], bool
        )
        null = column.is_null().to_numpy(zero_copy_only=False)
        places = encoded.indices.fill_null(0).to_numpy()

        def of_rows(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
            return flags[places] & ~null if len(flags) else np.zeros(len(column), dtype=bool)

        values = pc.take(pa.array(normal, pa.string()), encoded.indices)
        return Normalised(values, null | of_rows(lacking), of_rows(wrong), of_rows(other))


def squeezed(value: str) -> str:
    """Strip white space at the ends, and reduce runs of it to single spaces."""
    return " ".join(value.split())
