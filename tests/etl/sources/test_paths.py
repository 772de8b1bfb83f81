"""Paths into nested values: their steps, looking up, and hints for missing columns."""

import json
from pathlib import Path
from typing import Any

import pytest

from etl.sources.contract import Accepted, Contract, NotScalar, Problem
from etl.sources.files.jsonl import parse_object
from etl.sources.paths import hint, nested_names, parse_path, shown
from tests.etl.sources.source_files import configuration


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("event.level", ("event", "level")),
        ("items[0].name", ("items", 0, "name")),
        ("a[1][20]", ("a", 1, 20)),
        ('labels."app.io/name".x', ("labels", "app.io/name", "x")),
        ("größe.x y", ("größe", "x y")),
    ],
)
def test_paths_have_steps(name: str, steps: tuple[str | int, ...]) -> None:
    assert parse_path(name) == steps
    assert shown(steps) == name


@pytest.mark.parametrize(
    "name", ["level", "Star Rating", ".a", "a.", "a..b", "[0]", "a[x]", "a[0", 'a."b', "a[-1]"]
)
def test_other_names_are_no_paths(name: str) -> None:
    assert parse_path(name) is None


def value_of(tmp_path: Path, record: str, column: str) -> object:
    """Return the value of a label in a line of JSON, or the problem with it."""
    source = {"format": "jsonl", "path": "*"}
    held_to = Contract(configuration(tmp_path, [source], {"label": column}))
    parsed = parse_object(record, held_to)
    if isinstance(parsed, tuple):
        return parsed[0]
    checked = held_to.check(parsed, "a", 0, 0)
    return checked.values[0] if isinstance(checked, Accepted) else checked


@pytest.mark.parametrize(
    ("label", "column", "value"),
    [
        ({"event": {"level": "warn"}}, "event.level", "warn"),
        ({"event": {"level": 12345678901234567890}}, "event.level", "12345678901234567890"),
        ({"event": {"ok": True}}, "event.ok", "true"),
        ({"items": [{"name": "a"}, {"name": "b"}]}, "items[1].name", "b"),
        ({"event.level": "of its own", "event": {"level": "nested"}}, "event.level", "of its own"),
        ({"labels": {"app.io/name": "x"}}, 'labels."app.io/name"', "x"),
        ({"Star Rating": 5}, "Star Rating", "5"),
    ],
)
def test_a_column_of_exactly_that_name_wins_over_a_path(
    tmp_path: Path, label: dict[str, Any], column: str, value: str
) -> None:
    assert value_of(tmp_path, json.dumps({"text": "t", **label}), column) == value


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ('{"text": "t", "event": null}', Problem("null_value", "the column 'event.level' is null")),
        (
            '{"text": "t", "event": {"Level": "x"}, "log": {"level": 1}}',
            Problem(
                "missing_column",
                "the column 'event.level' is missing; there is 'event.Level' and 'log.level'",
            ),
        ),
        ('{"text": "t", "event": "x"}', Problem("missing_column", "the column 'event.level' is missing")),
        ('{"text": "t", "event": {"level": 1, "level": 2}}', "duplicate_key"),
        ('{"text": "t", "event": {"other": 1, "other": 2, "level": "x"}}', "x"),
    ],
)
def test_what_is_not_there_is_told(tmp_path: Path, record: str, problem: object) -> None:
    assert value_of(tmp_path, record, "event.level") == problem


def test_an_object_is_no_value(tmp_path: Path) -> None:
    found = value_of(tmp_path, '{"text": "t", "event": {"level": {"name": "x"}}}', "event.level")
    assert isinstance(found, Problem)
    assert found.reason == "wrong_type"


def test_hints_show_names_and_no_content() -> None:
    pairs: Any = (("level", "x"), ("joe@example.org", "y"))
    record = {"text": "t", "jane@example.org": (("level", 1),), "log": pairs, "tags": [(("level", "x"),)]}
    assert list(nested_names(record)) == ["text", "log.level", "tags[0].level"]
    assert hint("Level", nested_names(record)) == "; there is 'log.level' and 'tags[0].level'"
    assert hint("body", nested_names(record)) == ""
    many = {f"k{n}": NotScalar() for n in range(10_000)}
    assert len(list(nested_names(many))) == 200
