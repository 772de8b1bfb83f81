"""Columns and patterns in a configuration that no stage could use."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.config import Configuration


def configuration(**sections: Any) -> Configuration:
    return Configuration.model_validate(
        {
            "dataset": {"name": "example", "root": "warehouse"},
            "source": [{"format": "jsonl", "path": "*.jsonl"}],
            "columns": {},
            "feature": [{"name": "tokens", "column": "text"}],
            **sections,
        }
    )


@pytest.mark.parametrize("name", ["two words", "a.b", "a=b", "a`b", "a(b)", "a\tb"])
def test_columns_that_a_table_cannot_have_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="cannot stand in a Delta table"):
        configuration(columns={"label": name})
    assert configuration(columns={"id": name}).columns.id == name  # it becomes record_id
    assert configuration(columns={"label": "größe-2"}).columns.label == "größe-2"


def test_columns_that_differ_in_case_alone_are_refused() -> None:
    with pytest.raises(ValidationError, match="differ only in upper and lower case"):
        configuration(columns={"label": "Text"})


def test_a_replacement_has_to_fit_its_pattern() -> None:
    rule = {"name": "x", "pattern": "(a)", "replace": r"\1"}
    assert configuration(clean={"regex": [rule]}).clean.regex[0].replace == r"\1"
    for wrong in (r"\2", r"\g<name>"):
        with pytest.raises(ValidationError, match="`replace` does not fit the pattern"):
            configuration(clean={"regex": [{**rule, "replace": wrong}]})


@pytest.mark.parametrize(
    ("columns", "refusal"),
    [
        ({"time": "t", "time_unit": "minutes"}, "Input should be 's', 'ms', 'us' or 'ns'"),
        ({"time_unit": "ms"}, "which is missing"),
        ({"time": "t", "time_unit": "ms", "time_format": "%Y"}, "either time_unit or time_format"),
        ({"time": "t", "time_format": "%-d.%m.%Y"}, "not a format of Python's strptime"),
        ({"time": "t", "time_format": "%d %b %H:%M"}, "needs its year"),
        ({"time": "t", "time_format": "%d.%m.%Y %Z"}, "use %z for an offset"),
    ],
)
def test_notations_of_times_that_read_none_are_refused(columns: dict[str, str], refusal: str) -> None:
    with pytest.raises(ValidationError, match=refusal):
        configuration(columns=columns)


@pytest.mark.parametrize(
    "notation", ["%Y", "%d/%m/%y", "%a, %d %b %Y %H:%M:%S GMT", "%Y-%m-%d %H:%M:%S.%f%z"]
)
def test_notations_with_a_year_are_taken(notation: str) -> None:
    assert configuration(columns={"time": "t", "time_format": notation}).columns.time_format == notation
