"""Words of a text in any script: what duplicates are compared by, and what the linear baseline learns from.

A word is a run of `\\w` in the NFKC-normalised, case-folded text, with the marks that stand on its characters (general
category M: vowel signs, accents that have no composed form). In scripts without white space between words each
character is a word of its own, with its marks, so that shingles of words are n-grams of characters there.

Filters of running text count other words, `runs`, as the papers do that they come from.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise

SOUTH_EAST_ASIAN = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0xA9E0, 0xA9FF),  # Myanmar
    (0xAA60, 0xAADF),  # Myanmar, Tai Viet
    (0x11700, 0x1174F),  # Ahom
)
EAST_ASIAN = (
    (0x2E80, 0x2FDF),  # radicals of Han
    (0x3005, 0x3007),  # iteration mark and zero of Han
    (0x3021, 0x3029),
    (0x3031, 0x303C),
    (0x3041, 0x312F),  # Hiragana, Katakana with its prolonged sound mark, Bopomofo
    (0x31A0, 0x31BF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0xA4CF),  # Han, Yi
    (0xF900, 0xFAFF),  # Han
    (0x16FE0, 0x18AFF),  # Tangut
    (0x18D00, 0x18D7F),
    (0x1AFF0, 0x1B2FF),  # Kana, Nushu
    (0x20000, 0x323AF),  # Han
)
UNSPACED = SOUTH_EAST_ASIAN + EAST_ASIAN
"""First and last code points of scripts without white space between words: those of the line-break classes SA and ID
(Unicode Standard Annex 14) that have letters, by the blocks of Scripts.txt, Unicode 15.1.
"""
_WITH_MARKS = (range(0x300, 0x3400), range(0xA4D0, 0xAC00), range(0xFB00, 0x1E950), range(0xE0100, 0xE01F0))


def _marks() -> list[tuple[int, int]]:
    """Return the ranges of marks as this Python's Unicode has them."""
    category = unicodedata.category
    codes = [code for part in _WITH_MARKS for code in part if category(chr(code))[0] == "M"]
    ends = [-1, *(i for i, (c, d) in enumerate(pairwise(codes)) if d != c + 1), len(codes) - 1]
    return [(codes[first + 1], codes[last]) for first, last in pairwise(ends)]


def _set(ranges: Iterable[tuple[int, int]]) -> str:
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


_MARK = _set(_marks())
_BESIDE = r"\x00-/:-@\[-^`{-\x7f"  # ASCII characters that are in no word
_ASCII_WORD = re.compile(r"\w+", re.ASCII)
_WORD = re.compile(f"[^{_BESIDE}]+")
_SIGN = re.compile(rf"[^\x00-\x7f\w{_MARK}][^\x00-\x7f\w]*|(?:^|(?<=[{_BESIDE}]))[{_MARK}]+")
_CHARACTER = re.compile(rf"(?=\w)[{_set(UNSPACED)}][{_MARK}]*")
LETTERS_WITHOUT_SPACES = re.compile(rf"(?:(?=[^\W\d_])[{_set(UNSPACED)}][{_MARK}]*)+")
"""Run of letters that are words of their own, with their marks."""
_BESIDE_WORDS = rf"[^\s\w{_MARK}]"
_RUN = re.compile(rf"{_BESIDE_WORDS}*+{_CHARACTER.pattern}{_BESIDE_WORDS}*+|[^\s{_set(UNSPACED)}]+|\S")
_HIGH_BYTES = bytes(
    {high for first, last in UNSPACED if last < 1 << 16 for high in range(first >> 8, (last >> 8) + 1)}
    | set(range(0xD8, 0xDC))
)
"""First bytes of UNSPACED in UTF-16, surrogates included."""
SIGN, WORD, MARKS, CHARACTER = range(4)
"""Kinds of characters: in no word, in words, in the word (if any) of the character before, and a word of its own."""


def normalise(text: str) -> str:
    """Return the text in NFKC and without case: `Ａ` and `A` as `a`, `ß` as `ss`."""
    if text.isascii():
        return text.lower()
    # Case folding divides a few characters, such as ΐ, which NFKC makes of their capitals and marks.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def kind(character: str) -> int:
    """Return the kind of a character of a normalised text."""
    if unicodedata.category(character)[0] == "M":
        return MARKS
    if not (character.isalnum() or character == "_"):
        return SIGN
    code = ord(character)
    return CHARACTER if any(first <= code <= last for first, last in UNSPACED) else WORD


def words(text: str) -> list[str]:
    """Return the words of a text in their order."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    return _WORD.findall(_CHARACTER.sub(r" \g<0> ", _SIGN.sub(" ", normalise(text))))


@functools.lru_cache(maxsize=2)  # several filters ask about one text, as they do for its runs
def has_unspaced(text: str) -> bool:
    """Return True where a character of the text is a word of its own."""
    if text.isascii():
        return False
    high = text.encode("utf-16-be", "surrogatepass")[::2]
    # Ten times as fast as the search, which most texts are spared.
    return len(high.translate(None, _HIGH_BYTES)) < len(high) and _CHARACTER.search(text) is not None


def characters(text: str) -> list[str]:
    """Return the characters that are words of their own, with their marks, in their order."""
    return _CHARACTER.findall(text)


@functools.lru_cache(maxsize=2)
def runs(text: str) -> Sequence[str]:
    """Return the runs of characters that are not white space, as they stand in the text.

    Each character that is a word of its own is one run, with its marks and the signs beside it.
    """
    return _RUN.findall(text) if has_unspaced(text) else text.split()
