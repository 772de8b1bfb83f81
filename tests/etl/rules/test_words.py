"""Filters by the words of a text."""

import pytest

from etl.rules.words import (
    FilterAlphabeticWords,
    FilterStopWords,
    FilterSymbolRatio,
    FilterWordCount,
    FilterWordLength,
)
from schemas.cleaning import (
    AlphabeticWordsRule,
    StopWordsRule,
    SymbolRatioRule,
    WordCountRule,
    WordLengthRule,
)


@pytest.mark.parametrize(
    ("text", "dropped"),
    [("", True), ("one", True), ("one\ntwo", False), ("a b\u00a0c", False), ("a b c d", True)],
)
def test_word_count(text: str, dropped: bool) -> None:
    assert FilterWordCount(WordCountRule(minimum=2, maximum=3)).drops(text) == dropped


@pytest.mark.parametrize(
    ("text", "dropped"),
    [("", False), ("a a", True), ("a aaa", False), ("aaaa aaaa", False), ("aaaaa aaaa", True)],
)
def test_mean_word_length(text: str, dropped: bool) -> None:
    assert FilterWordLength(WordLengthRule(minimum=2, maximum=4)).drops(text) == dropped


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("", False),
        ("a 1", False),
        ("a 1 2", True),
        ("x1 é2 3 日本", False),
        ("-- ++ a", True),
        ("½ ² a", True),
    ],
)
def test_words_with_a_letter(text: str, dropped: bool) -> None:
    assert FilterAlphabeticWords(AlphabeticWordsRule(minimum=0.5)).drops(text) == dropped


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("", False),
        (" \n", False),
        ("price list", True),
        ("the the the", True),
        ("The seller, and (of course) nobody.", False),
        ("THE END OF IT", False),
        ("theory often", True),
        ("x_the_x of", True),
    ],
)
def test_stop_words_have_to_be_different_and_whole(text: str, dropped: bool) -> None:
    assert FilterStopWords(StopWordsRule()).drops(text) == dropped


def test_more_stop_words_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match="more different words than"):
        StopWordsRule(words=["the", "The", "of"], minimum=3)


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("", False),
        ("#", True),
        ("# one two three four five six seven eight nine", False),
        ("#one #two three", True),
        ("so ... it ... went", True),
        ("a b c d e f g h i… j", False),
        ("a b c d e f g h… j…", True),
    ],
)
def test_symbols_by_word(text: str, dropped: bool) -> None:
    assert FilterSymbolRatio(SymbolRatioRule()).drops(text) == dropped
