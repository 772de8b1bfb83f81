"""Equality of texts: what makes exact duplicates, and what short texts must share beside their words.

Exact duplicates are equal in all characters once case, NFKC and white space are folded, as far as `[deduplicate]` says
so. Signs, symbols, emoji and marks count: `C`, `C++` and `C#` are three texts.

Near-duplicates resemble each other in their words (etl/duplicates/minhash.py). One word that differs keeps texts of
fewer than 49 words apart, at 0.8 and with shingles of five, unless it stands near an end. In texts of fewer than
`signs_below` words a sign weighs as much as that, wherever it stands: two of them are near-duplicates only where they
also have the same signs in the same order between the same words, and the same words with marks. Full stops and commas
at the ends of words do not count. Where REPEATED words in a row occur twice in such a text, its shingles do not tell
how often and in which order (`no no no …`), and it is a near-duplicate of those alone that have all of its words in its
order. Of a pair with a longer text the words alone are compared, so that no copy is missed because the
limit lies between two texts.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from common.splitmix import GOLDEN, mix
from common.words import UNSPACED, normalise
from etl.duplicates.tokens import (
    SPACE,
    Ints,
    Texts,
    Tokens,
    Words,
    fold,
    token_hashes,
)
from schemas.settings import Deduplicate

# ASCII letters in lower case, and a space for all ASCII white space.
_LOWER = bytes(
    SPACE if b < 128 and chr(b).isspace() else ord(chr(b).lower()) if b < 128 else b for b in range(256)
)
# One for the signs of ASCII, zero for white space and for all that may belong to words.
_SIGNS = bytes(b < 128 and not (chr(b).isspace() or chr(b).isalnum() or b == ord("_")) for b in range(256))
STOPS = ".,،۔।、。"
"""Full stops and commas: copies differ in these at the ends of words and say the same."""
_DIGITS = np.frombuffer(b"0123456789", dtype=np.uint8)
POINTS = ".,"
"""Those of them that stand in numbers."""
REPEATED = 4
"""Words in a row, one fewer than in a shingle by default."""
_PIECE = re.compile(r"\S+|\s+")


@dataclass(frozen=True)
class Equality:
    """Differences that `[deduplicate]` lets equal texts have (schemas/settings.py)."""

    fold_case: bool = True
    nfkc: bool = True
    fold_white_space: bool = True
    signs_below: int = 50

    @classmethod
    def of(cls, settings: Deduplicate) -> "Equality":
        names = ("fold_case", "nfkc", "fold_white_space", "signs_below")
        return cls(**{name: getattr(settings, name) for name in names})

    @property
    def folds_all(self) -> bool:
        return self.fold_case and self.nfkc and self.fold_white_space

    def form(self, text: str) -> str:
        """Return the text that exact duplicates have in common."""
        form: Literal["NFKC", "NFC"] = "NFKC" if self.nfkc else "NFC"
        text = unicodedata.normalize(form, text)
        if self.fold_case:
            text = unicodedata.normalize(form, text.casefold())
        return " ".join(text.split()) if self.fold_white_space else text

    def unfolded(self, text: str) -> str:
        """Return the pieces of a text that only what is not folded would make equal to those of others."""
        pieces = _PIECE.findall(self.form(text))
        return "\0".join(piece for piece in pieces if piece != (" " if piece.isspace() else normalise(piece)))


ALL_FOLDED = Equality()


def exact_hashes(texts: pa.Array, forms: Texts, equality: Equality) -> list[bytes]:
    """Return 128 bits (BLAKE2b, RFC 7693) of each text in the form that exact duplicates share, in UTF-8.

    `forms`: those of `texts`.
    """
    blake2b = hashlib.blake2b
    if not equality.folds_all:
        folded = [equality.form(text or "").encode() for text in texts.to_pylist()]
        return [blake2b(text, digest_size=16).digest() for text in folded]
    lower, found = forms.raw.translate(_LOWER), []
    is_space = np.frombuffer(lower, dtype=np.uint8)[:-7] == SPACE
    single = not (
        is_space[1:] & is_space[:-1]
    ).any()  # no text begins or ends with a space, or has two of them
    for start, following in pairwise(forms.starts.tolist()):
        text = lower[start : following - 1]
        if not single and (b"  " in text or text[:1] == b" " or text[-1:] == b" "):
            text = b" ".join(text.split())
        found.append(blake2b(text, digest_size=16).digest())
    return found


def sign_hashes(texts: pa.Array, forms: Texts, tokens: Tokens, words: Words, equality: Equality) -> Ints:
    """Return a hash of the signs of each text of fewer than `signs_below` words, 0 for all others; int64 (texts,).

    `tokens` are those of `forms`, and `words` their hashes; texts without any get 0 as well. Two texts have one hash
    exactly where they have the same runs of signs in the same order between the same words, the same words with marks,
    how often each occurs included, the same pieces that are not folded and, if words in a row repeat, the same words.
    """
    counts = tokens.counts()
    short = (counts < equality.signs_below) & (counts > 0)
    found = np.zeros(len(counts), dtype=np.int64)
    if short.any():
        sums = _sums_of_contexts(forms, tokens, words, short) ^ _sequences(tokens, words, short)
        if not equality.folds_all:
            for i in np.flatnonzero(short).tolist():
                rest = hashlib.blake2b(equality.unfolded(texts[i].as_py()).encode(), digest_size=8).digest()
                sums[i] ^= np.uint64(int.from_bytes(rest, "little"))
        found[short] = np.maximum(mix(sums[short]), np.uint64(1)).view(np.int64)
    return found


def _sums_of_contexts(forms: Texts, tokens: Tokens, words: Words, wanted: npt.NDArray[np.bool_]) -> Words:
    """Return the sum of the hashes of each wanted text's runs of signs with the words beside them, and words with
    marks; uint64 (texts,).
    """
    places = np.flatnonzero(np.frombuffer(forms.raw.translate(_SIGNS), dtype=np.uint8) != 0)
    if len(forms.beyond):
        places = np.sort(np.concatenate((places, forms.beyond)))
    owners = np.searchsorted(forms.starts, places, side="right") - 1
    places = places[wanted[owners]]
    edges = np.flatnonzero(np.diff(places, prepend=-1, append=len(forms.raw) + 1) > 1)
    starts, ends = places[edges[:-1]], places[edges[1:] - 1] + 1
    raw = np.frombuffer(forms.raw, dtype=np.uint8)
    signs = Tokens(raw, starts, ends - starts, np.searchsorted(starts, forms.starts))
    of_signs = token_hashes(signs)
    owners = np.repeat(np.arange(len(wanted)), signs.counts())
    following = np.searchsorted(tokens.starts, starts)
    words = np.append(words, np.uint64(0))  # for no word
    right = words[np.where(following < tokens.offsets[owners + 1], following, -1)]
    left = words[np.where(following > tokens.offsets[owners], following - 1, -1)]
    # A full stop or comma after a word is none before white space, and beside a character that is a word of its own,
    # but in a number.
    before, after = tokens.buffer[starts - 1], tokens.buffer[ends]
    is_stop = np.isin(of_signs, _hashes_of(STOPS)) & (before != SPACE)
    beside = np.flatnonzero(is_stop & (after != SPACE))  # few: a full stop mostly stands before white space
    if len(beside):
        is_stop[beside] = np.isin(ends[beside], forms.characters) | np.isin(starts[beside], forms.cuts)
        digits = np.isin(before[beside], _DIGITS), np.isin(after[beside], _DIGITS)
        in_number = (digits[0] | np.isin(left[beside], _numerals())) & np.isin(right[beside], _numerals())
        is_point = np.isin(of_signs[beside], _hashes_of(POINTS))
        is_stop[beside] &= ~(is_point & (digits[1] | in_number))
    kept = ~is_stop
    of_signs, owners, left, right = of_signs[kept], owners[kept], left[kept], right[kept]
    place = np.arange(len(owners)) - np.searchsorted(owners, owners)
    found = mix(mix(of_signs + place.astype(np.uint64) * GOLDEN + left) ^ right * GOLDEN)
    total = np.concatenate((np.zeros(1, dtype=np.uint64), np.cumsum(found)))
    sums: Words = np.diff(total[np.searchsorted(owners, np.arange(len(wanted) + 1))])
    owners = np.searchsorted(forms.starts, forms.marks, side="right") - 1
    marks, owners = forms.marks[wanted[owners]], owners[wanted[owners]]
    marked, first = np.unique(np.searchsorted(tokens.starts, marks, side="right") - 1, return_index=True)
    np.add.at(sums, owners[first], mix(words[marked] ^ GOLDEN))
    return sums


def _sequences(tokens: Tokens, words: Words, wanted: npt.NDArray[np.bool_]) -> Words:
    """Return a hash of all words of each wanted text in which REPEATED words in a row occur twice, 0 for all others;
    uint64 (texts,).
    """
    found = np.zeros(len(wanted), dtype=np.uint64)
    counts = tokens.counts()
    owners = np.repeat(np.arange(len(wanted)), counts)[: max(0, len(words) - REPEATED + 1)]
    first = np.flatnonzero(wanted[owners] & (np.arange(len(owners)) + REPEATED <= tokens.offsets[owners + 1]))
    if not len(first):
        return found
    windows = fold(words, first, REPEATED) ^ mix(owners[first].astype(np.uint64))
    ordered = np.sort(windows)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    repeating = np.unique(owners[first[np.isin(windows, twice)]])
    for size in np.unique(counts[repeating]).tolist():
        some = repeating[counts[repeating] == size]
        found[some] = fold(words, tokens.offsets[some], size)
    return found


@cache
def _hashes_of(signs: str) -> Words:
    """Return the hashes of single characters."""
    encoded = [sign.encode() for sign in signs]
    sizes = np.array([len(sign) for sign in encoded])
    buffer = np.frombuffer(b"".join(encoded) + b" " * 8, dtype=np.uint8)
    starts = np.cumsum(sizes) - sizes
    return token_hashes(Tokens(buffer, starts, sizes, np.array([0, len(encoded)])))


@cache
def _numerals() -> Words:
    """Return the hashes of the characters of scripts without white space that stand for numbers."""
    codes = (code for first, last in UNSPACED for code in range(first, last + 1))
    return _hashes_of(
        "".join(chr(code) for code in codes if unicodedata.numeric(chr(code), None) is not None)
    )
