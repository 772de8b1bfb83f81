"""Filters by the words of a text: their number, their length, and their letters.

The rules and their limits are those of Gopher (Rae et al. 2021, "Scaling Language Models", appendix A.1.1). A word is
a run of characters that are not white space, and in scripts without white space between words each character
(common/words.py). A text without words is left to the rules about length.
"""

import re

from common.words import has_unspaced, runs
from etl.rules.registry import Filter
from schemas.cleaning import (
    AlphabeticWordsRule,
    StopWordsRule,
    SymbolRatioRule,
    WordCountRule,
    WordLengthRule,
)

BESIDE_LETTERS = re.compile(r"^[\W_]+|[\W_]+$")


class FilterWordCount(Filter):
    """Filter that drops texts outside [minimum, maximum] words."""

    def __init__(self, settings: WordCountRule) -> None:
        self.minimum, self.maximum = settings.minimum, settings.maximum

    def drops(self, text: str) -> bool:
        return not self.minimum <= len(runs(text)) <= self.maximum


class FilterWordLength(Filter):
    """Filter that drops texts whose average word length is outside [minimum, maximum] characters.

    Characters that are words say nothing about it: others are averaged, where they are at least half of the words.
    """

    def __init__(self, settings: WordLengthRule) -> None:
        self.minimum, self.maximum = settings.minimum, settings.maximum

    def drops(self, text: str) -> bool:
        words = runs(text)
        if has_unspaced(text):
            others = [word for word in words if not has_unspaced(word)]
            words = others if 2 * len(others) >= len(words) else []
        return bool(words) and not self.minimum <= sum(map(len, words)) / len(words) <= self.maximum


class FilterAlphabeticWords(Filter):
    """Filter that drops texts with too small a share of words that have a letter."""

    def __init__(self, settings: AlphabeticWordsRule) -> None:
        self.minimum = settings.minimum

    def drops(self, text: str) -> bool:
        words = runs(text)
        return sum(any(map(str.isalpha, word)) for word in words) < self.minimum * len(words)


class FilterStopWords(Filter):
    """Filter that drops texts with too few different stop words, which all running text of a language has.

    Those with characters of scripts without white space are found anywhere, others as whole words.
    """

    def __init__(self, settings: StopWordsRule) -> None:
        words = {word.casefold() for word in settings.words}
        self.anywhere = {word for word in words if has_unspaced(word)}
        self.words = words - self.anywhere
        self.minimum = settings.minimum

    def drops(self, text: str) -> bool:
        folded = text.casefold()
        found = {word for word in self.anywhere if word in folded}
        if len(found) >= self.minimum:
            return False
        for word in runs(folded):
            bare = word if word.isalpha() else BESIDE_LETTERS.sub("", word)
            if bare in self.words:
                found.add(bare)
                if len(found) >= self.minimum:
                    return False
        return bool(text.strip())


class FilterSymbolRatio(Filter):
    """Filter that drops texts with too many of a symbol, such as `#` or an ellipsis, for their number of words."""

    def __init__(self, settings: SymbolRatioRule) -> None:
        self.symbols, self.maximum = settings.symbols, settings.maximum

    def drops(self, text: str) -> bool:
        counts = [text.count(symbol) for symbol in self.symbols]
        return any(counts) and max(counts) > self.maximum * len(runs(text))


RULES = {
    "word_count": FilterWordCount,
    "word_length": FilterWordLength,
    "alphabetic_words": FilterAlphabeticWords,
    "stop_words": FilterStopWords,
    "symbol_ratio": FilterSymbolRatio,
}
