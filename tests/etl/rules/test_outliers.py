"""Length, character ratio, the user's own patterns, and the order of all rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.rules.outliers import (
    FilterCharacterRatio,
    FilterDigitRatio,
    FilterLength,
    count_digits,
    count_letters,
)
from etl.rules.registry import Edit, Filter, build_rules, makers
from etl.rules.regular_expressions import make
from schemas.cleaning import (
    BUILT_IN_RULES,
    EDITS,
    FILTERS,
    CharacterRatioRule,
    Clean,
    DigitRatioRule,
    LengthRule,
    RegexRule,
)


@pytest.mark.parametrize(
    ("text", "dropped"), [("", True), ("a", True), ("ab", False), ("abcd", False), ("abcde", True)]
)
def test_length(text: str, dropped: bool) -> None:
    assert FilterLength(LengthRule(minimum=2, maximum=4)).drops(text) == dropped


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("ab--", False),
        ("a---", True),
        ("a - -", True),
        ("é9--", False),
        ("é---", True),
        ("日本 --", False),
        ("", False),
        (" ", False),
    ],
)
def test_character_ratio(text: str, dropped: bool) -> None:
    assert FilterCharacterRatio(CharacterRatioRule(minimum_letters=0.5)).drops(text) == dropped


@given(st.text(max_size=30))
def test_the_fast_count_of_letters_is_the_slow_one(text: str) -> None:
    assert count_letters(text) == (sum(c.isalnum() for c in text), sum(not c.isspace() for c in text))


@pytest.mark.parametrize(
    ("text", "dropped"),
    [("", False), ("12 a", True), ("1 a", False), ("1 2 é", True), ("٣٤ ab", False), ("½² a", False)],
)
def test_digit_ratio(text: str, dropped: bool) -> None:
    assert FilterDigitRatio(DigitRatioRule(maximum=0.5)).drops(text) == dropped


@given(st.text(max_size=30))
def test_the_fast_count_of_digits_is_the_slow_one(text: str) -> None:
    assert count_digits(text) == (sum(c.isdecimal() for c in text), sum(not c.isspace() for c in text))


def test_own_patterns_replace_or_drop() -> None:
    edit = make(RegexRule(name="years", pattern=r"(\d{4})-(\d{4})", replace=r"\2 to \g<1>"))
    assert isinstance(edit, Edit)
    assert edit.apply("1999-2001, 3-4") == ("2001 to 1999, 3-4", 1)
    drop = make(RegexRule(name="lorem", pattern="(?i)lorem", drop=True))
    assert isinstance(drop, Filter)
    assert (drop.drops("Lorem ipsum"), drop.drops("text")) == (True, False)


def test_every_rule_of_the_configuration_has_a_maker() -> None:
    assert set(makers()) == {*BUILT_IN_RULES, "regex"}


def test_rules_come_in_the_order_of_application() -> None:
    own = [RegexRule(name="own", pattern="a", replace="b")]
    names = [name for name, _ in build_rules(Clean(regex=own, rules=[*BUILT_IN_RULES, "own"]))]
    assert names == [*EDITS, "own", *FILTERS]
    names = [name for name, _ in build_rules(Clean(regex=own))]
    assert names == [
        *(name for name in EDITS if name != "boilerplate_lines"),
        "own",
        "length",
        "character_ratio",
    ]
    assert [name for name, _ in build_rules(Clean(regex=own, rules=["length", "own", "unicode"]))] == [
        "unicode",
        "own",
        "length",
    ]
    assert build_rules(Clean(rules=[])) == []
