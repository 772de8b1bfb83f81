"""Columns and patterns in a configuration that no stage could use."""

import json
import re
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.config import Configuration, with_later_keys


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


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("two words", "two_words"),
        ("a.b", "a_b"),
        ("items[0].name", "items_0_name"),
        ('a."b.c"', "a_b_c"),
        ("Price (EUR)", "Price_EUR"),
    ],
)
def test_columns_that_a_table_cannot_have_get_another_name_there(name: str, short: str) -> None:
    config = configuration(columns={"label": name}, feature=[{"name": "tokens", "column": name}])
    assert config.columns.label == config.feature[0].column == short
    assert config.columns.in_files(short) == name
    assert Configuration.model_validate(config.model_dump(mode="json")) == config
    assert configuration(columns={"id": name}).columns.id == name  # it becomes record_id
    assert configuration(columns={"label": "größe-2"}).columns.label == "größe-2"


def test_a_column_is_given_its_name_in_the_tables() -> None:
    rename = {"level": "log.level", "text": "message"}
    config = configuration(columns={"label": "level", "rename": rename})
    assert config.table_columns() == ["level", "text"]
    assert [config.columns.in_files(name) for name in config.table_columns()] == ["log.level", "message"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": "a.b", "group": "a_b"}, "'a.b' and 'a_b' would both be called 'a_b'"),
        ({"label": "a.b", "group": "a b"}, "'a b' and 'a.b' would both be called 'a_b'"),
        ({"label": "x", "rename": {"Star Rating": "x"}}, "names 'Star Rating', which no role"),
        ({"label": "a b", "rename": {"a b": "x"}}, "'a b' cannot stand in a Delta table"),
        ({"label": "..."}, "'...' cannot stand in a Delta table"),
        ({"label": "source.path"}, "'source_path' is the name of one of the product's own columns"),
    ],
)
def test_names_that_do_not_fit_are_refused(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        configuration(columns=columns)


def test_expectations_may_name_a_column_as_the_files_do() -> None:
    expected = [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "event.level"}}]
    config = configuration(columns={"label": "event.level"}, quality={"expectation": expected})
    assert config.quality.expectation[0].kwargs == {"column": "event_level"}


def test_columns_that_differ_in_case_alone_are_refused() -> None:
    with pytest.raises(ValidationError, match="differ only in upper and lower case"):
        configuration(columns={"label": "Text"})


def test_an_image_has_one_limit_of_pixels_in_all_its_features() -> None:
    small = {"name": "small", "column": "picture", "encode": "image", "size": 8, "max_pixels": 100}
    large = small | {"name": "large", "size": 32}
    assert configuration(feature=[small, large]).image_columns() == ["picture"]
    with pytest.raises(
        ValidationError, match=r"'picture' have different max_pixels, 100 and, for 'large', 200: "
    ):
        configuration(feature=[small, large | {"max_pixels": 200}])


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
        ({"time": "t", "time_format": "%Y%Y"}, "not a format of Python's strptime"),
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


def test_a_format_of_a_date_that_reads_none_is_refused() -> None:
    feature = {"name": "day", "column": "day", "encode": "date", "formats": ["iso", "unix_ms", "%d.%m.%Y"]}
    text = {"name": "tokens", "column": "text"}
    assert configuration(feature=[text, feature]).feature[1].model_dump()["formats"] == feature["formats"]
    with pytest.raises(ValidationError, match="not a format of Python's strptime"):
        configuration(feature=[text, {**feature, "formats": ["iso", "%d.%m.%Y %d"]}])


def test_what_an_earlier_version_published_gets_the_defaults_of_later_keys() -> None:
    sections = configuration(columns={"label": "kind"}).data_sections()

    def earlier(section: str, *keys: str) -> Any:
        published = json.loads(json.dumps(sections[section]))
        for one in published if isinstance(published, list) else [published]:
            for key in keys:
                del one[key]
        return published

    for section, keys in (
        ("columns", ["rename"]),
        ("feature", ["length"]),
        ("source", []),
        ("split", ["seed"]),
    ):
        published = earlier(section, *keys)
        assert with_later_keys(section, published, sections[section]) == sections[section]
    changed = {**earlier("columns", "rename"), "label": "other"}
    assert with_later_keys("columns", changed, sections["columns"]) != sections["columns"]
    # What no longer exists is left to be compared as it is, and so are more features than there are now.
    gone = {**sections["columns"], "gone": 1}
    assert with_later_keys("columns", gone, sections["columns"]) == gone
    two = [*sections["feature"], *sections["feature"]]
    assert with_later_keys("feature", two, sections["feature"]) == two
    assert with_later_keys("unknown", {"a": 1}, {}) == {"a": 1}
