"""Common part of numbers and dates: statistics of the training split, outliers, missing values, scale.

The artifact is JSON (`statistics` in the manifest), so that serving can repeat the encoding: missing values become
`fill`; values below `low` or above `high` are outliers; the result is (x - offset) / divisor, and its asinh where
`transform` says so.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from common.errors import DataError
from common.storage import Storage
from etl.encoders.fixed import fixed_rows
from schemas.config import canonical_json
from schemas.features import Outliers, ScalarFeature

MISSING, OUTLIER = 1, 2
"""Bits of the flags that are encoded beside a row."""
NORMAL_MAD = 0.6744897501960817
"""Median of |x| of a standard normal distribution: MAD / this estimates the standard deviation."""
FACTORS = {"iqr": 1.5, "mad": 3.5}
Floats = npt.NDArray[np.float64]


def fit(values: Iterable[str | None], feature: ScalarFeature, number: Callable[[str], float]) -> bytes:
    """Return the statistics of the training split's values, in normal form, null where missing; `number` parses one.

    Raises DataError where there is no value to learn from.
    """
    present, missing = [], 0
    for value in values:
        if value is None:
            missing += 1
        else:
            present.append(number(value))
    if not present:
        raise DataError(
            f"the column {feature.column!r} has no value in the training split to learn from for the "
            f"feature {feature.name!r}: look at its values in silver/fields, or remove the feature"
        )
    # Sorted, and summed exactly: the statistics depend on the values alone, not on their order.
    ordered = np.sort(np.array(present, dtype=np.float64))
    low, high = limits(ordered, feature.outliers)
    action = None if feature.outliers is None else feature.outliers.action
    used = ordered
    if action == "clip":
        used = np.clip(ordered, -math.inf if low is None else low, math.inf if high is None else high)
    elif action == "drop":
        used = ordered[~outlying(ordered, low, high)]
    if not len(used):
        raise DataError(
            f"every value of the column {feature.column!r} in the training split is an outlier of the feature "
            f"{feature.name!r}, from {low} to {high} being allowed: correct its `outliers`"
        )
    mean, deviation = moments(used)
    offset, divisor = 0.0, 1.0
    if feature.scale == "standard":
        offset, divisor = mean, deviation or 1.0
    elif feature.scale == "min_max":
        offset, divisor = float(used[0]), float(used[-1] - used[0]) or 1.0
    elif feature.scale == "robust":
        offset, spread = middle_and_spread(used)
        divisor = spread or deviation or 1.0
    fill = {"mean": mean, "median": float(np.quantile(used, 0.5)), "constant": feature.fill}.get(
        feature.missing
    )
    q1, median, q3 = (float(each) for each in np.quantile(ordered, [0.25, 0.5, 0.75]))
    document = {
        "kind": feature.encode,
        "rows": len(ordered) + missing,
        "missing": missing,
        "outliers": int(outlying(ordered, low, high).sum()),
        "minimum": float(ordered[0]),
        "maximum": float(ordered[-1]),
        "mean": mean,
        "standard_deviation": deviation,
        "q1": q1,
        "median": median,
        "q3": q3,
        "low": low,
        "high": high,
        "action": action,
        "fill": fill,
        "offset": offset,
        "divisor": divisor,
    }
    if feature.scale == "robust":
        document["transform"] = "asinh"
    return canonical_json(document) + b"\n"


def moments(ordered: Floats) -> tuple[float, float]:
    """Return mean and standard deviation (of the values themselves, divided by n), from exact sums."""
    if ordered[0] == ordered[-1]:
        # The mean would be off by rounding, and the scale that distance.
        return float(ordered[0]), 0.0
    mean = math.fsum(ordered) / len(ordered)
    return mean, math.sqrt(math.fsum((ordered - mean) ** 2) / len(ordered))


def limits(ordered: Floats, outliers: Outliers | None) -> tuple[float | None, float | None]:
    """Return the limits below and above which values are outliers; None for no limit."""
    if outliers is None:
        return None, None
    if outliers.rule == "limits":
        return outliers.low, outliers.high
    if outliers.rule == "quantiles":
        found = [None if q is None else float(np.quantile(ordered, q)) for q in (outliers.low, outliers.high)]
        return found[0], found[1]
    factor = outliers.factor or FACTORS[outliers.rule]
    if outliers.rule == "iqr":
        q1, q3 = (float(each) for each in np.quantile(ordered, [0.25, 0.75]))
        return q1 - factor * (q3 - q1), q3 + factor * (q3 - q1)
    median, spread = middle_and_spread(ordered)
    # More than half of the values are equal: then nothing says how far is far.
    return (median - factor * spread, median + factor * spread) if spread else (None, None)


def middle_and_spread(ordered: Floats) -> tuple[float, float]:
    """Return the median and MAD/0.6745, which is 0 where more than half of the values are equal."""
    median = float(np.quantile(ordered, 0.5))
    return median, float(np.quantile(np.abs(ordered - median), 0.5)) / NORMAL_MAD


def outlying(values: Floats, low: float | None, high: float | None) -> npt.NDArray[np.bool_]:
    """Return a mask of the values below `low` or above `high`; NaN (missing) is neither."""
    found = np.zeros(len(values), dtype=bool)
    if low is not None:
        found |= values < low
    if high is not None:
        found |= values > high
    return found


def numbers_of(values: pa.StringArray, number: Callable[[str], float]) -> Floats:
    """Return the values as floats, NaN for null."""
    return np.array([math.nan if each is None else number(each) for each in values.to_pylist()], np.float64)


def flags_of(floats: Floats, learned: Mapping[str, Any]) -> npt.NDArray[np.int32]:
    """Return the bits MISSING and OUTLIER of each value."""
    found = np.isnan(floats) * MISSING + outlying(floats, learned["low"], learned["high"]) * OUTLIER
    flags: npt.NDArray[np.int32] = found.astype(np.int32)
    return flags


@dataclass(frozen=True)
class ScalarEncoder:
    """Interface of this folder's modules, for one way to parse a value in normal form as a number."""

    number: Callable[[str], float]

    def fit(self, values: Iterable[str | None], feature: ScalarFeature, options: Storage) -> bytes:
        """Fit the statistics; see `fit`."""
        return fit(values, feature, self.number)

    def encode(
        self, values: pa.StringArray, artifact: bytes, feature: ScalarFeature
    ) -> tuple[pa.Array, pa.Array]:
        """Return rows of float32 and the flags of each row.

        A row is the value, then 1 where it was missing and 1 where it is an outlier, as far as configured.
        """
        learned, floats = json.loads(artifact), numbers_of(values, self.number)
        found = flags_of(floats, learned)
        x = np.where(np.isnan(floats), math.nan if learned["fill"] is None else learned["fill"], floats)
        if learned["action"] == "clip":
            low, high = learned["low"], learned["high"]
            x = np.clip(x, -math.inf if low is None else low, math.inf if high is None else high)
        scaled = (x - learned["offset"]) / learned["divisor"]
        columns = [np.arcsinh(scaled) if learned.get("transform") == "asinh" else scaled]
        if feature.mark_missing:
            columns.append((found & MISSING) / MISSING)
        if learned["action"] == "mark":
            columns.append((found & OUTLIER) / OUTLIER)
        return fixed_rows(np.stack(columns, axis=1).astype("<f4")), pa.array(found)

    def flags(self, values: pa.StringArray, artifact: bytes) -> npt.NDArray[np.int32]:
        """Return the bits MISSING and OUTLIER of each row."""
        return flags_of(numbers_of(values, self.number), json.loads(artifact))

    def dtype(self, feature: ScalarFeature) -> str:
        """Return numpy's name of the element type."""
        return "float32"

    def shape(self, feature: ScalarFeature) -> list[int]:
        """Return one element for the value, and one each for the missing and the outlier mark where configured."""
        marked = feature.outliers is not None and feature.outliers.action == "mark"
        return [1 + feature.mark_missing + marked]

    def vocabulary(self, artifact: bytes) -> int | None:
        """Return None: any number may occur."""
        return None
