"""The contract of a record: columns, ids, times."""

import hashlib
import time
from pathlib import Path
from typing import Any

import pytest

from etl.sources.contract import (
    Accepted,
    Contract,
    Duration,
    Moment,
    NotScalar,
    NotText,
    Number,
    Problem,
    Truth,
    UntypedText,
    WithNames,
    time_in_seconds,
)
from schemas.config import Configuration
from tests.etl.sources.source_files import configuration

RECORD = {"id": "7", "label": "x", "seen": "2020-01-01T00:00:00Z", "text": " t ", "extra": NotScalar()}


def contract(tmp_path: Path, **columns: str) -> Contract:
    roles = {"label": "label", "time": "seen", **columns}
    return Contract(configuration(tmp_path, [{"format": "jsonl", "path": "*"}], roles))


def test_a_record_is_accepted_verbatim(tmp_path: Path) -> None:
    accepted = contract(tmp_path, id="id").check(RECORD, "a", 0, 5)
    assert accepted == Accepted("7", 1577836800.0, ("x", "2020-01-01T00:00:00Z", " t "))


def test_an_id_is_derived_from_place_and_content(tmp_path: Path) -> None:
    without_id = contract(tmp_path)
    first = without_id.check(RECORD, "a", 0, 5)
    assert isinstance(first, Accepted)
    parts = (b"a", b"5", b"x", b"2020-01-01T00:00:00Z", b" t ")
    hashed = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    assert first.record_id == hashlib.blake2b(hashed, digest_size=16).hexdigest()
    others = [
        without_id.check(RECORD, "b", 0, 5),
        without_id.check(RECORD, "a", 1, 5),
        without_id.check(RECORD, "a", 0, 6),
        without_id.check({**RECORD, "label": "x2"}, "a", 0, 5),
    ]
    assert len({first.record_id, *(o.record_id for o in others if isinstance(o, Accepted))}) == 5
    assert without_id.check({**RECORD, "extra": 1}, "a", 0, 5) == first  # other columns do not matter


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("text", Number("7"), "wrong_type"),
        ("text", Truth("true"), "wrong_type"),
        ("text", Moment("2020-01-01"), "wrong_type"),
        ("label", Number("nan"), "null_value"),
        ("id", Number("9" * 1001), "too_long_value"),
        ("id", "", "empty_value"),
        ("label", None, "null_value"),
        ("label", "", "empty_value"),
        ("label", "x" * 1001, "too_long_value"),
        ("id", "é" * 1001, "too_long_value"),
        ("group", UntypedText("x" * 1001), "too_long_value"),
        ("label", NotScalar(), "wrong_type"),
        ("label", True, "wrong_type"),
        ("text", " \n\u3000", "blank_text"),
        ("text", "a\ud800b", "lone_surrogate"),
        ("text", NotText(), "invalid_utf8"),
        ("seen", NotScalar(), "wrong_type"),
        ("seen", None, "null_value"),
        ("seen", "yesterday", "invalid_time"),
        ("seen", Number("1e999"), "invalid_time"),
    ],
)
def test_a_wrong_value_is_a_problem_of_its_column(
    tmp_path: Path, column: str, value: object, reason: str
) -> None:
    roles = {"id": "id", "group": "group"}
    problem = contract(tmp_path, **roles).check({**RECORD, "group": "g", column: value}, "a", 0, 5)
    assert isinstance(problem, Problem)
    assert problem.reason == reason
    assert repr(column) in problem.detail


@pytest.mark.parametrize(
    "value", [Number("9007199254740993"), Number("-0"), Number("1.50"), Truth("false"), Moment("2020-01-01")]
)
def test_ids_labels_and_groups_of_any_type_are_taken_as_they_are_written(tmp_path: Path, value: str) -> None:
    record = {**RECORD, "id": value, "label": value, "group": value}
    accepted = contract(tmp_path, id="id", group="group").check(record, "a", 0, 5)
    assert isinstance(accepted, Accepted)
    assert (accepted.record_id, accepted.values[:2]) == (str(value), (str(value), str(value)))
    assert {type(one) for one in (accepted.record_id, *accepted.values)} == {str}


def test_a_problem_says_what_the_value_is_and_what_to_do(tmp_path: Path) -> None:
    def detail(column: str, value: object) -> str:
        problem = contract(tmp_path).check({**RECORD, column: value}, "a", 0, 5)
        assert isinstance(problem, Problem)
        return problem.detail

    assert detail("text", Number("7")) == "the column 'text' is a number and not a string"
    assert "name a single value in it, as in 'event.name'" in detail("label", NotScalar())
    assert "is a duration, which has no notation of its own" in detail("label", Duration())
    assert "put it in quotes" in detail("label", True)


def test_a_missing_column_names_those_that_may_be_meant(tmp_path: Path) -> None:
    names = ["Text", "log.text", "more", "a.text_", "b.TEXT", "c.text"]
    record = WithNames({"label": "x", "seen": "2020-01-01"}, lambda: names)
    assert contract(tmp_path).check(record, "a", 0, 5) == Problem(
        "missing_column", "the column 'text' is missing; there is 'Text' and 'log.text' and 'a.text_'"
    )


def test_columns_are_looked_for_under_their_names_in_the_files(tmp_path: Path) -> None:
    renamed = {"label": "stars", "rename": {"stars": "Star Rating", "text": "Review.Text"}}
    held_to = Contract(configuration(tmp_path, [{"format": "csv", "path": "*"}], renamed))
    assert held_to.needed == ("Star Rating", "Review.Text")
    accepted = held_to.check({"Star Rating": "5", "Review.Text": "good", "stars": "no"}, "a", 0, 5)
    assert isinstance(accepted, Accepted)
    assert accepted.values == ("5", "good")


@pytest.mark.parametrize("name", ["x" * 1000, "é" * 1000, UntypedText("x" * 1000)])
def test_names_have_up_to_a_thousand_characters_and_texts_more(tmp_path: Path, name: str) -> None:
    long = {"id": name, "label": name, "text": name * 2}
    accepted = contract(tmp_path, id="id").check({**RECORD, **long}, "a", 0, 5)
    assert isinstance(accepted, Accepted)
    of_text = contract(tmp_path, group="text")  # a group that is also a text may be as long as a text
    assert isinstance(of_text.check({**RECORD, **long}, "a", 0, 5), Accepted)


@pytest.mark.parametrize(
    ("feature", "written"),
    [
        ({"encode": "number"}, "1.0e0"),  # no sign between thousands, whatever `decimal` says
        ({"encode": "boolean", "true": ["1.0"]}, "1.0"),
        ({"encode": "category"}, "1.0"),
        ({"encode": "date", "formats": ["%d.%m"]}, "1.0"),
    ],
)
def test_decimals_are_marked_in_columns_of_numbers_alone(
    tmp_path: Path, feature: dict[str, Any], written: str
) -> None:
    config = configuration(tmp_path, [{"format": "jsonl", "path": "*"}]).model_dump(mode="json")
    config["feature"].append({"name": "x", "column": "x", **feature})
    held_to = Contract(Configuration.model_validate(config))
    for value, expected in ((Number("1.0"), written), (Number("1"), "1"), ("1.0", "1.0"), (None, None)):
        accepted = held_to.check({**RECORD, "x": value}, "a", 0, 5)
        assert isinstance(accepted, Accepted)
        assert accepted.values[-1] == expected


def test_names_are_exact(tmp_path: Path) -> None:
    record = {("Text" if key == "text" else key): value for key, value in RECORD.items()}
    assert contract(tmp_path).check(record, "a", 0, 5) == Problem(
        "missing_column", "the column 'text' is missing; there is 'Text'"
    )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1970-01-02", 86400.0),
        ("19700102", 86400.0),
        ("1970-01-01T01:00:00.5+01:00", 0.5),
        ("1970-01-01 00:00", 0.0),
        ("1969-12-31T23:59:59Z", -1.0),
        (Number("-1.5e3"), -1500.0),
        (UntypedText("1600000000"), 1.6e9),
        (UntypedText("20200101"), 1577836800.0),
        (Moment("1970-01-02"), 86400.0),
    ],
)
def test_times_are_seconds_since_1970(value: object, seconds: float) -> None:
    assert time_in_seconds(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "1600000000",
        "2020-13-01",
        "2020-01-01x00:00",
        "",
        "２０２０-01-01",
        Number("0x1F"),
        UntypedText("nan"),
    ],
)
def test_anything_else_is_no_time(value: object) -> None:
    assert isinstance(time_in_seconds(value), Problem)


@pytest.mark.parametrize(
    ("value", "unit", "looks_like"),
    [
        (
            Number("1712345678901"),
            None,
            '1,700,000,000,000 looks like milliseconds: columns.time_unit = "ms"',
        ),
        (UntypedText("1712345678901"), None, 'milliseconds: columns.time_unit = "ms"'),
        (Number("1712345678901234"), None, 'microseconds: columns.time_unit = "us"'),
        (Number("1712345678901234567"), None, 'nanoseconds: columns.time_unit = "ns"'),
        (Number("1.712345678901234567e18"), "ms", 'nanoseconds: columns.time_unit = "ns"'),
        (Number("-5e12"), None, "columns.time_unit or columns.time_format says"),
        (UntypedText("20240102030405"), None, "columns.time_unit or columns.time_format says"),
        ("0001-01-01", None, "1900 to 9999"),
        ("9999-12-31T23:00:00-02:00", None, "1900 to 9999"),
        (Moment("1677-09-21T00:12:43Z"), "ns", "1900 to 9999"),
    ],
)
def test_times_of_no_usual_year_are_refused_with_the_likely_unit(
    value: object, unit: str | None, looks_like: str
) -> None:
    problem = time_in_seconds(value, unit)
    assert isinstance(problem, Problem)
    assert problem.reason == "time_out_of_range"
    assert looks_like in problem.detail
    assert str(value)[:5] not in problem.detail  # the content stays in the raw bytes


@pytest.mark.parametrize("seconds", [-2208988800, 253402300799])
def test_all_of_1900_and_of_9999_is_read(seconds: int) -> None:
    assert time_in_seconds(Number(str(seconds))) == seconds
    for outside in (-2208988801, 253402300800):
        assert isinstance(time_in_seconds(Number(str(outside))), Problem)


@pytest.mark.parametrize(
    ("value", "unit", "seconds"),
    [
        (Number("1712345678901"), "ms", 1712345678.901),
        ("1712345678901", "ms", 1712345678.901),
        (UntypedText("1712345678901234"), "us", 1712345678.901234),
        (Number("1712345678901234567"), "ns", 1712345678.9012346),
        (Number("1712345678"), "s", 1712345678.0),
        (UntypedText("20200101"), "s", 20200101.0),  # a unit means numbers, and no day of ISO 8601
        ("2020-01-01", "ms", 1577836800.0),
        (Moment("2020-01-01"), "ns", 1577836800.0),  # typed
    ],
)
def test_numbers_count_in_the_configured_unit(value: object, unit: str, seconds: float) -> None:
    assert time_in_seconds(value, unit) == seconds


@pytest.mark.parametrize(
    ("value", "notation", "seconds"),
    [
        ("01/02/2024 00:30", "%d/%m/%Y %H:%M", 1706747400.0),
        (UntypedText("01/02/2024 00:30"), "%m/%d/%Y %H:%M", 1704155400.0),
        (Number("20240102"), "%Y%m%d", 1704153600.0),
        ("Tue, 02 Jan 2024 03:04:05 GMT", "%a, %d %b %Y %H:%M:%S GMT", 1704164645.0),
        ("2024-01-02 03:04:05 +0100", "%Y-%m-%d %H:%M:%S %z", 1704161045.0),
        (Moment("2020-01-01"), "%d/%m/%Y", 1577836800.0),  # typed
    ],
)
def test_times_have_the_configured_format(value: object, notation: str, seconds: float) -> None:
    assert time_in_seconds(value, None, notation) == seconds
    assert time_in_seconds("2024-13-45", None, notation) == Problem(
        "invalid_time", "does not have the format of columns.time_format"
    )


def test_a_zone_that_is_not_named_is_utc_on_any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/Bogota")
    time.tzset()
    try:
        assert time_in_seconds("1970-01-02") == 86400
        assert time_in_seconds("02.01.1970", None, "%d.%m.%Y") == 86400
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_newest_is_the_newest_in_any_notation(tmp_path: Path) -> None:
    held_to = contract(tmp_path, time_unit="ms")
    times = []
    for written in (Number("1600000000000"), "2024-05-05T00:00:00Z"):
        accepted = held_to.check({**RECORD, "seen": written}, "a", 0, 5)
        assert isinstance(accepted, Accepted)
        times.append(accepted.time_seconds)
    assert times == [1600000000.0, 1714867200.0]
    by_default = contract(tmp_path).check({**RECORD, "seen": Number("1600000000000")}, "a", 0, 5)
    assert isinstance(by_default, Problem)
    assert by_default.detail.startswith("the column 'seen' lies outside the years 1900 to 9999 in seconds")
