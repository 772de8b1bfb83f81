"""Values of typed columns in one notation."""

from typing import Any

import pyarrow as pa
import pytest

from etl.normalisers import ColumnNormaliser, normaliser
from etl.normalisers.date import days
from schemas.features.boolean import BooleanFeature
from schemas.features.category import CategoryFeature
from schemas.features.date import DateFeature
from schemas.features.number import NumberFeature


def number(**settings: Any) -> NumberFeature:
    return NumberFeature(name="x", column="x", encode="number", **settings)


@pytest.mark.parametrize(
    ("decimal", "value", "normal"),
    [
        ("point", "12", "12"),
        ("point", " -0.50 ", "-0.5"),
        ("point", "1,234.5", "1234.5"),
        ("point", "1'234'567", "1234567"),
        ("point", "1 234.5", "1234.5"),
        ("point", "1\u202f234", "1234"),
        ("point", "\u22125", "-5"),
        ("point", "1e3", "1000"),
        ("point", ".5", "0.5"),
        ("point", "-0", "0"),
        ("point", "1,23", None),
        ("point", "12,34,56", None),
        ("point", "1.234.567", None),
        ("point", "1,2345", None),
        ("point", "12 kg", None),
        ("point", "1,234,5", None),
        ("comma", "1.234.5", None),
        ("comma", "1.234e0", "1.234"),
        ("point", "1e39", None),
        ("point", "nan", None),
        ("point", "inf", None),
        ("point", "1e999", None),
        ("point", "٣", None),
        ("point", "1_000", None),
        ("point", "0x10", None),
        ("comma", "1.234,5", "1234.5"),
        ("comma", "0,5", "0.5"),
        ("comma", "1.234", "1234"),
        ("comma", "1.5", None),
        ("comma", "1,2,3", None),
        ("auto", "1.234,5", "1234.5"),
        ("auto", "1,234.5", "1234.5"),
        ("auto", "0,5", "0.5"),
        ("auto", "0.125", "0.125"),
        ("auto", "1.5", "1.5"),
        ("auto", "1,234", None),
        ("auto", "1.234", None),
        ("auto", "1,234,567", "1234567"),
        ("auto", "1.234.567", "1234567"),
        ("auto", "1234.567", "1234.567"),
        ("auto", "77", "77"),
    ],
)
def test_numbers(decimal: str, value: str, normal: str | None) -> None:
    assert normaliser(number(decimal=decimal))(value) == normal


@pytest.mark.parametrize(
    ("value", "normal"),
    [
        ("12 kg", "12"),
        ("500G", "0.5"),
        ("€ 3.50", "3.5"),
        ("7", "7"),
        ("12 mg", None),
        ("kg", None),
        ("1,5 kg", None),
        ("12Fuß", "24"),
        ("12 FUSS", "24"),
        ("Fuß 1E1", "20"),
    ],
)
def test_units(value: str, normal: str | None) -> None:
    assert normaliser(number(units={"kg": 1, "g": 0.001, "€": 1, "Fuß": 2}))(value) == normal


@pytest.mark.parametrize(
    ("value", "normal"),
    [
        ("2024-03-01", "2024-03-01"),
        ("20240301", "2024-03-01"),
        ("01.03.2024", "2024-03-01"),
        ("03/01/24", "2024-03-01"),
        ("2024-03-01T12:30:00+02:00", "2024-03-01T10:30:00Z"),
        ("2024-03-01 00:00:00", "2024-03-01"),
        ("1709251200", "2024-03-01"),
        ("2024-02-30", None),
        ("31.02.2024", None),
        ("yesterday", None),
        ("0001-01-01T00:00:00+10:00", None),
    ],
)
def test_dates(value: str, normal: str | None) -> None:
    feature = DateFeature(
        name="x", column="x", encode="date", formats=["iso", "%d.%m.%Y", "%m/%d/%y", "unix"]
    )
    # Eight digits alone are a date of ISO 8601; ten are not.
    assert normaliser(feature)(value) == normal


@pytest.mark.parametrize(("notation", "zeros"), [("unix_ms", 3), ("unix_us", 6), ("unix_ns", 9)])
def test_dates_in_smaller_units_than_seconds(notation: str, zeros: int) -> None:
    feature = DateFeature(name="x", column="x", encode="date", formats=[notation])
    assert normaliser(feature)("1700000000" + "0" * zeros) == "2023-11-14T22:13:20Z"
    assert normaliser(feature)("x" * zeros) is None


def test_days_count_from_1970() -> None:
    assert days("1970-01-02") == 1
    assert days("1970-01-01T12:00:00Z") == 0.5
    assert days("1969-12-31") == -1


def test_truth_and_categories() -> None:
    truth = normaliser(
        BooleanFeature(name="x", column="x", encode="boolean", true=["ja", "1"], false=["nein"])
    )
    assert [truth(v) for v in (" JA ", "1", "Nein", "0", "")] == ["true", "true", "false", None, None]
    settings: dict[str, Any] = {"name": "x", "column": "x", "encode": "category"}
    names = normaliser(CategoryFeature(**settings, spellings={"Germany": ["de", "West  Germany"]}))
    assert [names(v) for v in ("DE", "germany", "west germany ", " New   York", " ")] == [
        "Germany",
        "Germany",
        "Germany",
        "new york",
        None,
    ]
    assert normaliser(CategoryFeature(**settings, case="keep"))("New  York") == "New York"


def test_a_column_tells_missing_from_invalid_from_changed() -> None:
    column = pa.array(["1", None, " 2,5", "N/A", "x", "", "1"], pa.string())
    found = ColumnNormaliser(number(decimal="comma"))(column)
    assert found.values.to_pylist() == ["1", None, "2.5", None, None, None, "1"]
    assert found.missing.tolist() == [False, True, False, True, False, True, False]
    assert found.invalid.tolist() == [False, False, False, False, True, False, False]
    assert found.changed.tolist() == [False, False, True, False, False, False, False]
    for empty in (pa.array([], pa.string()), pa.array([None], pa.string())):
        nothing = ColumnNormaliser(number())(empty)
        assert nothing.missing.tolist() == [True] * len(empty)
        assert not nothing.invalid.any()
