"""Bullets, ellipses, boilerplate."""

import pytest

from etl.rules.lines import FilterBulletLines, FilterEllipsisLines, RemoveBoilerplateLines
from schemas.cleaning import BoilerplateLinesRule, BulletLinesRule, EllipsisLinesRule


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("", False),
        ("- a\n- b", True),
        ("- a\n\n  b\n", False),
        ("• a\n  * b\n- c", True),
        ("a - b\nc", False),
    ],
)
def test_lines_with_bullets(text: str, dropped: bool) -> None:
    assert FilterBulletLines(BulletLinesRule(maximum=0.5)).drops(text) == dropped


@pytest.mark.parametrize(
    ("text", "dropped"),
    [("", False), ("a...\nb\n", False), ("a...\nb…  \nc", True), ("... a\n… b\nc", False)],
)
def test_lines_that_end_with_an_ellipsis(text: str, dropped: bool) -> None:
    assert FilterEllipsisLines(EllipsisLinesRule(maximum=0.5)).drops(text) == dropped


def test_boilerplate_lines_go_and_long_ones_stay() -> None:
    rule = RemoveBoilerplateLines(BoilerplateLinesRule(phrases=["use cookies", "a+b"], longest=40))
    long = "We explain at length in this paragraph why we use cookies."
    assert rule.apply(f"First.\nWe Use Cookies!\n\n{long}\nA+B") == (f"First.\n\n{long}", 2)
    assert rule.apply(long) == (long, 0)
    assert rule.apply("We refuse cookie\naab\n") == ("We refuse cookie\naab\n", 0)
    assert rule.apply("use cookies") == ("", 1)
