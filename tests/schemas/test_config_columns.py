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
