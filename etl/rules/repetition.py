"""Filters for texts that repeat themselves: lines, paragraphs, n-grams of words.

The rules and their limits are those of Gopher (Rae et al. 2021, "Scaling Language Models", appendix A.1.1).
Repetitions count, the first occurrence does not. Where white space does not part words, a sequence of n words is one of
2n characters in East Asian scripts and of 4n in South East Asian ones, about as many as n words have there.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from common.words import SOUTH_EAST_ASIAN, characters, has_unspaced, runs
from etl.rules.lines import filled_lines
from etl.rules.registry import Filter
from schemas.cleaning import RepeatedLinesRule, RepeatedNgramsRule, RepeatedParagraphsRule

Ints = npt.NDArray[np.int64]

BLANK_LINE = re.compile(r"\n\s*\n")
MOST_FREQUENT = (2, 3, 4)
REPEATED = (5, 6, 7, 8, 9, 10)
PARTS = 4
"""Parts that a word counts for in a text with characters that are words."""


class FilterRepeatedLines(Filter):
    """Filter that drops texts with too large a share of repeated lines, by lines or by characters."""

    def __init__(self, settings: RepeatedLinesRule) -> None:
        self.pieces, self.characters = settings.maximum_lines, settings.maximum_characters

    def drops(self, text: str) -> bool:
        pieces, characters = repeated_shares(filled_lines(text))
        return pieces > self.pieces or characters > self.characters


class FilterRepeatedParagraphs(Filter):
    """Filter that drops texts with too large a share of repeated paragraphs, by paragraphs or by characters."""

    def __init__(self, settings: RepeatedParagraphsRule) -> None:
        self.pieces, self.characters = settings.maximum_paragraphs, settings.maximum_characters

    def drops(self, text: str) -> bool:
        paragraphs = [piece.strip() for piece in BLANK_LINE.split(text)]
        pieces, characters = repeated_shares([piece for piece in paragraphs if piece])
        return pieces > self.pieces or characters > self.characters


class FilterRepeatedNgrams(Filter):
    """Filter that drops texts with too large a share in a few n-grams of words, or in repeated ones."""

    def __init__(self, settings: RepeatedNgramsRule) -> None:
        limits = {n: getattr(settings, f"most_frequent_{n}") for n in MOST_FREQUENT}
        limits |= {n: getattr(settings, f"repeated_{n}") for n in REPEATED}
        self.limits: dict[int, float] = limits

    def drops(self, text: str) -> bool:
        shares = ngram_shares(runs(text), PARTS if has_unspaced(text) else 1)
        return any(shares[n] > limit for n, limit in self.limits.items())


def repeated_shares(pieces: Sequence[str]) -> tuple[float, float]:
    """Return the share of repeated pieces, and their share of all characters."""
    if not pieces:
        return 0.0, 0.0
    first = set(pieces)
    characters = sum(map(len, pieces))
    return 1 - len(first) / len(pieces), 1 - sum(map(len, first)) / characters


def parts_of(word: str) -> int:
    """Return the parts of a word, of PARTS, that a run counts for."""
    own = characters(word)
    if not own:
        return PARTS
    return 1 if any(first <= ord(own[0][0]) <= last for first, last in SOUTH_EAST_ASIAN) else 2


def ngram_shares(words: Sequence[str], parts: int = 1) -> dict[int, float]:
    """Return shares of the words' characters by n.

    For n of 2 to 4 the share of the most frequent n-gram, if it occurs more than once (on a tie that with the most
    characters); for 5 to 10 the share of repeated n-grams. Exact (words and n-grams are numbered, not hashed), in
    time proportional to n log n of the words. With PARTS `parts` n-grams have n times as many parts of words.
    """
    shares = dict.fromkeys((*MOST_FREQUENT, *REPEATED), 0.0)
    numbers: dict[str, int] = {}
    codes = np.fromiter((numbers.setdefault(word, len(numbers)) for word in words), np.int64, len(words))
    sizes = np.fromiter(map(len, words), np.int64, len(words))
    if parts > 1:
        each = np.fromiter(map(parts_of, numbers), np.int64, len(numbers))[codes]
        firsts = np.cumsum(each) - each
        within = np.arange(each.sum()) - np.repeat(firsts, each)
        codes = np.repeat(codes * parts, each) + within
        sizes = np.where(within == 0, np.repeat(sizes, each), 0)
    ends = np.concatenate(([0], np.cumsum(sizes)))
    # N words can only repeat where n-1 words do, and in most texts few do.
    places, grams = np.arange(len(codes)), codes
    for size in range(2, REPEATED[-1] * parts + 1):
        n = size // parts if size % parts == 0 else 0
        inside = places + size <= len(codes)
        places, grams = places[inside], grams[inside]
        if not len(places):
            break
        pairs = grams * (len(numbers) * parts) + codes[places + size - 1]
        _, firsts, grams, counts = np.unique(
            pairs, return_index=True, return_inverse=True, return_counts=True
        )
        if n in MOST_FREQUENT and counts.max() > 1:
            most = places[firsts[counts == counts.max()]]
            shares[n] = min(1.0, float(counts.max() * (ends[most + size] - ends[most]).max() / ends[-1]))
        if n in REPEATED:
            shares[n] = float(sizes[_covered(np.delete(places, firsts), size, len(codes))].sum() / ends[-1])
        again = counts[grams] > 1
        places, grams = places[again], grams[again]
    return shares


def _covered(places: Ints, n: int, words: int) -> npt.NDArray[np.bool_]:
    """Return a mask of the words that lie in an n-gram beginning at one of the places."""
    steps = np.zeros(words + 1, dtype=np.int64)
    steps[places] += 1
    steps[places + n] -= 1
    covered: npt.NDArray[np.bool_] = np.cumsum(steps[:-1]) > 0
    return covered


RULES = {
    "repeated_lines": FilterRepeatedLines,
    "repeated_paragraphs": FilterRepeatedParagraphs,
    "repeated_ngrams": FilterRepeatedNgrams,
}
