"""Normalisation, control characters, white space."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.rules.characters import NormaliseUnicode, NormaliseWhiteSpace, RemoveControlCharacters
from schemas.cleaning import ControlCharactersRule, UnicodeRule, WhiteSpaceRule


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("NFC", "plain", ("plain", 0)),
        ("NFC", "é", ("é", 0)),
        ("NFC", "e\u0301", ("é", 1)),
        ("NFC", "ﬁ", ("ﬁ", 0)),
        ("NFKC", "ﬁ", ("fi", 1)),
    ],
)
def test_normalisation(form: str, text: str, expected: tuple[str, int]) -> None:
    assert NormaliseUnicode(UnicodeRule.model_validate({"form": form})).apply(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\tb\nc", ("a\tb\nc", 0)),
        ("a\x00b\x7fc\x9d", ("abc", 3)),
        ("a\r\nb\rc\x0cd\u2028e\x85f", ("a\nb\nc\nd\ne\nf", 5)),
        ("so\u00adft\u200b \ufeffx\u202e", ("soft x", 4)),
        (
            "\u0646\u200c\u0627 \U0001f469\u200d\U0001f4bb",
            ("\u0646\u200c\u0627 \U0001f469\u200d\U0001f4bb", 0),
        ),
    ],
)
def test_control_characters(text: str, expected: tuple[str, int]) -> None:
    assert RemoveControlCharacters(ControlCharactersRule()).apply(text) == expected


def test_control_characters_to_keep_can_be_named() -> None:
    assert RemoveControlCharacters(ControlCharactersRule(keep="")).apply("a\tb\nc") == ("abc", 2)
    assert RemoveControlCharacters(ControlCharactersRule(keep="\n\r]^-")).apply("a\r\nb\t") == ("a\r\nb", 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b\nc", ("a b\nc", 0)),
        ("a  b\t c\u00a0d", ("a b c d", 3)),
        ("a \n b", ("a\nb", 2)),
        ("a\r\nb\rc", ("a\nb\nc", 2)),
        ("a\n\n\n\nb\n\nc", ("a\n\nb\n\nc", 1)),
        ("\n a \n", ("a", 3)),
        (" \n\t ", ("", 4)),
    ],
)
def test_white_space(text: str, expected: tuple[str, int]) -> None:
    assert NormaliseWhiteSpace(WhiteSpaceRule()).apply(text) == expected


def test_the_number_of_blank_lines_can_be_set() -> None:
    assert NormaliseWhiteSpace(WhiteSpaceRule(blank_lines=0)).apply("a\n\nb\n\n\nc") == ("a\nb\nc", 2)
    assert NormaliseWhiteSpace(WhiteSpaceRule(blank_lines=3)).apply("a\n\n\n\nb") == ("a\n\n\n\nb", 0)


@given(st.text(st.sampled_from("ab \t\n\r\x0b\x85\u00a0\u2028\u3000"), max_size=40))
def test_white_space_keeps_the_words_and_is_done_after_once(text: str) -> None:
    rule = NormaliseWhiteSpace(WhiteSpaceRule())
    once, count = rule.apply(text)
    assert once.split() == text.split()
    assert rule.apply(once) == (once, 0)
    assert (count == 0) == (once == text)
    assert not {"  ", " \n", "\n ", "\n\n\n"} & {once[i : i + n] for i in range(len(once)) for n in (2, 3)}


@given(st.text(alphabet="ab \n\t\r\x0b\x1f\u00a0", max_size=30))
def test_white_space_that_is_plain_takes_a_short_cut_to_the_same_text(text: str) -> None:
    shortened = NormaliseWhiteSpace(WhiteSpaceRule()).apply(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NormaliseWhiteSpace, "_is_plain", lambda _self, _text: False)
        assert NormaliseWhiteSpace(WhiteSpaceRule()).apply(text) == shortened


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("def f():\n    if x:\n\t\treturn 1\n\nprint()", 2),
        ("a\n  b\n \n   \n  c", 2),
        ("  the first line alone", 0),
        ("a\n b\nc  \n", 0),
    ],
)
def test_lines_that_lose_their_indentation_are_counted(text: str, lines: int) -> None:
    noted = NormaliseWhiteSpace(WhiteSpaceRule()).noted(text)
    assert noted == (("indentation", lines) if lines else None)
