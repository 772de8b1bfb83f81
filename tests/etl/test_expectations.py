"""The user's own expectations of the published records."""

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from common.errors import ConfigurationError, QualityGateError
from etl.gates import data_docs
from etl.gates.expectations import declared, file_sha256, message_of, published_records
from etl.gates.judgement import judge
from schemas.config import Configuration
from schemas.tables import Layout
from tests.etl.example_summary import example_summary
from tests.etl.example_tables import configuration, write_small_data_set

IN_FILE = """
import great_expectations as gx

def expectations():
    return [gx.expectations.ExpectColumnValuesToMatchRegex(column="text", regex="^[^q]*$"),
            gx.expectations.ExpectTableRowCountToBeBetween(min_value={least})]
"""


def expecting(folder: Path, *entries: tuple[str, dict[str, Any]], file: str | None = None) -> Configuration:
    quality: dict[str, Any] = {"expectation": [{"type": name, "kwargs": kwargs} for name, kwargs in entries]}
    if file is not None:
        (folder / "mine.py").write_text(file)
        quality["expectations_file"] = str(folder / "mine.py")
    return configuration(folder, quality=quality)


LABELS = ("expect_column_values_to_be_in_set", {"column": "label", "value_set": ["notice", "text"]})
TOO_FEW = ("expect_column_values_to_be_in_set", {"column": "label", "value_set": ["notice"]})


def test_expectations_are_judged_on_the_published_records_alone(spark: SparkSession, tmp_path: Path) -> None:
    config = expecting(tmp_path, LABELS, TOO_FEW, file=IN_FILE.format(least=6))
    write_small_data_set(config)
    records = published_records(spark, config)
    assert sorted(row["record_id"] for row in records.collect()) == ["a1", "b1", "b2", "c1", "d1"]
    gates = judge(example_summary(), config, Layout.of(config), records)
    mine = {gate.name: gate for gate in gates.gates[-4:]}
    assert len(mine) == 3  # two of them have the same name and column
    shown = [(gate.name, gate.observed, gate.passed) for gate in gates.gates[-4:]]
    # The filtered records of the class `tag` are not published.
    assert shown == [
        ("expect_column_values_to_be_in_set (label)", "0 of 5 unexpected", True),
        ("expect_column_values_to_be_in_set (label)", "3 of 5 unexpected", False),
        ("expect_column_values_to_match_regex (text)", "0 of 5 unexpected", True),
        ("expect_table_row_count_to_be_between", "5", False),
    ]
    with pytest.raises(QualityGateError, match=r"2 quality gates failed .*\(label\): 3 of 5 unexpected"):
        gates.raise_for_failures()
    # No value of a record stands in a page or in what is said.
    common = ("expect_column_most_common_value_to_be_in_set", {"column": "text", "value_set": ["x"]})
    gates_of_texts = judge(example_summary(), expecting(tmp_path, common), Layout.of(config), records)
    assert [(gate.observed, gate.passed) for gate in gates_of_texts.gates[-1:]] == [
        ("not as expected", False)
    ]
    data_docs.write(gates.validations, "small", str(Path(gates.data_docs).parent), config.storage)
    pages = "".join(page.read_text() for page in Path(gates.data_docs).parent.rglob("*.html"))
    assert "share in the quarantine" in pages
    assert "yyyyyyyy" not in pages
    assert len(judge(example_summary(), config, Layout.of(config)).gates) == len(gates.gates) - 4


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (
            ("expect_nothing", {}),
            r"quality\.expectation\.0 \(expect_nothing\): Great Expectations knows no such",
        ),
        (("expect_column_values_to_not_be_null", {}), r"its kwargs do not fit: .*column"),
        (("expect_column_values_to_not_be_null", {"column": "x", "typo": 1}), "its kwargs do not fit"),
    ],
)
def test_what_cannot_be_made_is_told_before_anything_runs(
    entry: tuple[str, dict[str, Any]], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        declared(expecting(tmp_path, entry))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("def expectations(:", "mine.py cannot be run"),
        ("x = 1", r"mine.py has no function expectations\(\) that returns a list"),
        ("def expectations(): return ['x']", "has no function"),
        ("import no_such_module", r"mine\.py cannot be run: No module named 'no_such_module'$"),
        ("x = 1\nundefined", r"mine\.py cannot be run: NameError in line 2$"),
        (
            "def expectations():\n    raise ValueError('of joe')",
            r"mine\.py cannot be run: ValueError in line 2$",
        ),
        ("raise SystemExit(0)", r"mine\.py cannot be run: SystemExit in line 1$"),
    ],
)
def test_a_file_without_expectations_is_told(content: str, told: str, tmp_path: Path) -> None:
    config = expecting(tmp_path, file=content)
    with pytest.raises(ConfigurationError, match=told):
        declared(config)
    before = file_sha256(config)
    (tmp_path / "mine.py").write_text(content + "\n")
    assert file_sha256(config) != before
    (tmp_path / "mine.py").unlink()
    for question in (declared, file_sha256):
        with pytest.raises(ConfigurationError, match=r"mine\.py cannot be"):
            question(config)


def test_an_expectation_that_cannot_be_checked_stops_the_publication(
    spark: SparkSession, tmp_path: Path
) -> None:
    config = expecting(tmp_path, ("expect_column_values_to_not_be_null", {"column": "no_such_column"}))
    write_small_data_set(config)
    with pytest.raises(
        ConfigurationError, match=r"\(no_such_column\) cannot be checked, so nothing was published"
    ):
        judge(example_summary(), config, Layout.of(config), published_records(spark, config))


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ('The column "label" is no number', "The column label is no number"),
        ("'O'Brien lives in' is no number", "…"),
        ("could not read: \"O'Brien\" and 'ann", "could not read: …"),
        ("not the\ntype of 'a\nb'\nat all", "not the\ntype of …"),
    ],
)
def test_no_value_is_told_with_what_an_expectation_raised(message: str, shown: str) -> None:
    info = {"raised_exception": True, "exception_message": message}
    assert message_of(info, "label") == message_of({"m": info}, "label") == shown
    assert message_of(info | {"raised_exception": False}, "label") == ""
