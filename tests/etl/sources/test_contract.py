"""The contract of a record: columns, ids, times."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from etl.sources.contract import (
    Accepted,
    Contract,
    Moment,
    NotScalar,
    NotText,
    Number,
    Problem,
    UntypedText,
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
        ("id", Number("7"), "wrong_type"),
        ("id", "", "empty_value"),
        ("label", None, "null_value"),
        ("label", "", "empty_value"),
        ("label", "x" * 1001, "too_long_value"),
        ("id", "é" * 1001, "too_long_value"),
        ("group", UntypedText("x" * 1001), "too_long_value"),
        ("label", NotScalar(), "wrong_type"),
        ("label", True, "wrong_type"),
        ("label", Moment("2020-01-01"), "wrong_type"),
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


@pytest.mark.parametrize("name", ["x" * 1000, "é" * 1000, UntypedText("x" * 1000)])
def test_names_have_up_to_a_thousand_characters_and_texts_more(tmp_path: Path, name: str) -> None:
    long = {"id": name, "label": name, "text": name * 2}
    accepted = contract(tmp_path, id="id").check({**RECORD, **long}, "a", 0, 5)
    assert isinstance(accepted, Accepted)
    of_text = contract(tmp_path, group="text")  # a group that is a text, too, is as long as that
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
        "missing_column", "the column 'text' is missing"
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
