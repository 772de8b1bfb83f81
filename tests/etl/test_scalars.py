"""Encoders of typed columns: what they learn from the training split, and how they encode values."""

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import DataError
from common.storage import Storage
from etl.encoders import boolean, category, date, number
from etl.normalisers.number import written
from schemas.features import Outliers
from schemas.features.boolean import BooleanFeature
from schemas.features.category import CategoryFeature
from schemas.features.date import DateFeature
from schemas.features.number import NumberFeature

VALUES = [f"{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 100)]


def numbers(**settings: Any) -> NumberFeature:
    return NumberFeature(name="x", column="x", encode="number", **settings)


def learned(feature: NumberFeature, values: list[str | None]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(number.fit(values, feature, Storage()))
    return found


def encoded(
    feature: NumberFeature, train: list[str | None], values: list[str | None]
) -> npt.NDArray[np.float32]:
    """Return rows of float32, one for each value."""
    rows, _ = number.encode(pa.array(values, pa.string()), number.fit(train, feature, Storage()), feature)
    return np.array([np.frombuffer(row, dtype="<f4") for row in rows.to_pylist()])


@pytest.mark.parametrize(
    ("outliers", "low", "high"),
    [
        # Quartiles 3 and 7.
        ({"rule": "iqr"}, 3 - 1.5 * 4, 7 + 1.5 * 4),
        ({"rule": "iqr", "factor": 3.0}, 3 - 12, 7 + 12),
        # Median 5, median of the distances from it 2.
        ({"rule": "mad"}, 5 - 3.5 * 2 / 0.6744897501960817, 5 + 3.5 * 2 / 0.6744897501960817),
        ({"rule": "quantiles", "low": 0.25, "high": 0.75}, 3, 7),
        ({"rule": "quantiles", "high": 0.5}, None, 5),
        ({"rule": "limits", "low": 2.5}, 2.5, None),
    ],
)
def test_the_limits_of_outliers(outliers: dict[str, Any], low: float | None, high: float | None) -> None:
    found = learned(numbers(outliers=outliers), [*VALUES, None])
    assert found["low"] == (None if low is None else pytest.approx(low))
    assert found["high"] == (None if high is None else pytest.approx(high))
    assert (found["rows"], found["missing"]) == (10, 1)


def test_where_most_values_are_the_same_the_median_distance_says_nothing() -> None:
    assert learned(numbers(outliers={"rule": "mad"}), ["1", "1", "1", "9"])["high"] is None


def test_outliers_are_marked_or_clipped_and_values_scaled() -> None:
    marked = encoded(numbers(outliers={"rule": "iqr"}), [*VALUES], ["100", "5", "-50"])
    assert marked.tolist() == [[100, 1], [5, 0], [-50, 1]]
    clipped = encoded(numbers(outliers={"rule": "iqr", "action": "clip"}), [*VALUES], ["100", "5", "-50"])
    assert clipped.tolist() == [[13], [5], [-3]]
    # Scaled by the remaining values: 1 to 8 after 100 is left out, and 1 to 13 after it is clipped.
    drop = numbers(outliers={"rule": "iqr", "action": "drop"}, scale="min_max")
    assert encoded(drop, [*VALUES], ["1", "8"]).tolist() == [[0], [1]]
    clip = numbers(outliers={"rule": "iqr", "action": "clip"}, scale="min_max")
    assert encoded(clip, [*VALUES], ["1", "13", "999"]).tolist() == [[0], [1], [1]]
    standard = encoded(numbers(scale="standard"), [*VALUES], [*VALUES])
    assert abs(float(standard.mean())) < 1e-6
    assert float(standard.std()) == pytest.approx(1, abs=1e-6)
    assert encoded(numbers(scale="standard"), ["7", "7"], ["7", "9"]).tolist() == [[0], [2]]


def test_the_robust_scale_is_neither_moved_nor_dominated_by_an_extreme_value() -> None:
    # Median 5, median of the distances from it 2.
    spread = 2 / 0.6744897501960817
    robust = encoded(numbers(scale="robust"), [*VALUES], ["5", "3", "100", "-1e9"])[:, 0]
    expected = [0, *(math.asinh((x - 5) / spread) for x in (3, 100, -1e9))]
    assert robust.tolist() == pytest.approx(expected, rel=1e-6)
    assert robust[2] < 5
    found = learned(numbers(scale="robust"), [*VALUES])
    assert (found["offset"], found["divisor"], found["transform"]) == (5, pytest.approx(spread), "asinh")
    # Artifacts of the other scales are as they were.
    assert "transform" not in learned(numbers(scale="standard"), [*VALUES])


def test_where_the_median_distance_is_zero_the_standard_deviation_takes_its_place() -> None:
    found = learned(numbers(scale="robust"), ["1", "1", "1", "9"])
    assert (found["offset"], found["divisor"]) == (1, pytest.approx(math.sqrt(12)))
    assert learned(numbers(scale="robust"), ["7", "7"])["divisor"] == 1


@pytest.mark.parametrize("scale", ["standard", "robust"])
@pytest.mark.parametrize("value", ["0.1", "3.3", "98.6", "0.7"])
def test_a_constant_column_is_only_moved_to_zero(scale: str, value: str) -> None:
    found = learned(numbers(scale=scale), [value] * 23_681)
    assert (found["mean"], found["standard_deviation"]) == (float(value), 0)
    assert (found["offset"], found["divisor"]) == (float(value), 1)


@pytest.mark.parametrize(
    ("missing", "fill", "becomes"), [("mean", None, 136 / 9), ("median", None, 5), ("constant", -1.0, -1)]
)
def test_missing_values_are_filled(missing: str, fill: float | None, becomes: float) -> None:
    feature = numbers(missing=missing, fill=fill, mark_missing=True)
    assert encoded(feature, [*VALUES, None], [None, "3"]).tolist() == [[pytest.approx(becomes), 1], [3, 0]]
    assert number.shape(feature) == [2]


@given(
    st.lists(st.integers(-(10**12), 10**12).map(lambda n: written(n / 1000)), min_size=1, max_size=50),
    st.randoms(),
)
def test_the_order_of_the_values_changes_nothing(values: list[str], draw: Any) -> None:
    feature = numbers(outliers={"rule": "iqr", "action": "clip"}, scale="standard", missing="mean")
    shuffled = [*values]
    draw.shuffle(shuffled)
    assert number.fit(values, feature, Storage()) == number.fit(shuffled, feature, Storage())


def test_a_column_without_values_teaches_nothing() -> None:
    with pytest.raises(DataError, match="the column 'x' has no value in the training split"):
        number.fit([None, None], numbers(), Storage())


def test_dates_are_days() -> None:
    limits = Outliers(rule="limits", low=0.0)
    feature = DateFeature(name="x", column="x", encode="date", outliers=limits)
    artifact = date.fit(["1970-01-11"], feature, Storage())
    rows, flags = date.encode(pa.array(["1970-01-03T12:00:00Z", "1969-12-31"]), artifact, feature)
    assert [np.frombuffer(row, "<f4").tolist() for row in rows.to_pylist()] == [[2.5, 0], [-1, 1]]
    assert flags.to_pylist() == [0, 2]


def test_truth_values() -> None:
    feature = BooleanFeature(name="x", column="x", encode="boolean", missing="mode", mark_missing=True)
    artifact = boolean.fit(["true", "true", "false", None], feature, Storage())
    rows, flags = boolean.encode(pa.array(["false", None, "true"]), artifact, feature)
    assert [np.frombuffer(row, "<f4").tolist() for row in rows.to_pylist()] == [[0, 0], [1, 1], [1, 0]]
    assert flags.to_pylist() == [0, 1, 0]
    assert json.loads(artifact) == {
        "kind": "boolean",
        "rows": 4,
        "missing": 1,
        "true": 2,
        "false": 1,
        "fill": True,
    }


def test_categories_get_codes_by_frequency() -> None:
    settings: dict[str, Any] = {"name": "x", "column": "x", "encode": "category"}
    train = ["b", "a", "b", "c", "a", "d", None]

    def codes(**more: Any) -> tuple[list[int], int | None]:
        feature = CategoryFeature(**settings, **more)
        artifact = category.fit(train, feature, Storage())
        rows, _ = category.encode(pa.array(["a", "b", "c", "new", None]), artifact, feature)
        found = [int(np.frombuffer(row, "<i4")[0]) for row in rows.to_pylist()]
        return found, category.vocabulary(artifact)

    assert codes() == ([1, 2, 3, 0, 0], 5)
    assert codes(min_count=2) == ([1, 2, 0, 0, 0], 3)
    assert codes(most=1, missing="mode") == ([1, 0, 0, 0, 1], 2)
