"""Generated texts in several scripts: words of a vocabulary with Zipf's frequencies, in sentences."""

import functools
import itertools
import random
from collections.abc import Callable
from typing import NamedTuple

WORDS = 2000
"""Words of a vocabulary."""
SUMS = list(itertools.accumulate(1 / (place + 2.7) for place in range(WORDS)))
"""Summed frequencies by Zipf and Mandelbrot's law."""

Syllable = Callable[[random.Random], str]


class Script(NamedTuple):
    """Script of generated texts: syllables, how many of them a word has, what parts words and ends sentences."""

    syllable: Syllable
    sizes: tuple[int, ...]
    space: str
    ends: tuple[str, ...]


def _one(first: int, last: int) -> Syllable:
    return lambda rng: chr(rng.randint(first, last))


def _han(rng: random.Random) -> str:
    return chr(0x4E00 + int(2500 * rng.random() ** 2))


def _japanese(rng: random.Random) -> str:
    return _han(rng) if rng.random() < 0.4 else chr(rng.randint(0x3042, 0x3092))


def _thai(rng: random.Random) -> str:
    vowel = rng.choice("\u0e30\u0e32\u0e34\u0e35\u0e37\u0e38\u0e31 ").strip()
    return (
        rng.choice(["", "", "เ", "แ", "โ"])
        + rng.choice("กขคงจชดตถทนบปผพมยรลวสห")
        + vowel
        + rng.choice(["", "\u0e48"])
    )


def _lao(rng: random.Random) -> str:
    return rng.choice("ກຂຄງຈສຊດຕຖທນບປຜພມຢຣລວຫ") + rng.choice("\u0eb0\u0eb2\u0eb4\u0eb5\u0eb8")


def _khmer(rng: random.Random) -> str:
    below = "\u17d2" + chr(rng.randint(0x1780, 0x17A1)) if rng.random() < 0.3 else ""
    return chr(rng.randint(0x1780, 0x17A1)) + below + chr(rng.randint(0x17B6, 0x17C4))


def _burmese(rng: random.Random) -> str:
    final = chr(rng.randint(0x1000, 0x1020)) + "\u103a" if rng.random() < 0.4 else ""
    return chr(rng.randint(0x1000, 0x1020)) + rng.choice("\u102c\u102d\u102e\u102f\u1030\u1031") + final


def _hindi(rng: random.Random) -> str:
    return chr(rng.randint(0x915, 0x939)) + rng.choice(["", "\u093e", "\u093f", "\u0940", "\u0941", "\u0947"])


def _english(rng: random.Random) -> str:
    return rng.choice("bcdfghklmnprst") + rng.choice("aeiou") + rng.choice(["", "n", "r", "s"])


SCRIPTS = {
    "chinese": Script(_han, (1, 2, 2, 3), "", ("。", "，")),
    "japanese": Script(_japanese, (1, 2, 2, 3), "", ("。", "、")),
    "thai": Script(_thai, (1, 1, 2, 2, 3), "", (" ",)),
    "lao": Script(_lao, (1, 2, 2, 3), "", (" ",)),
    "khmer": Script(_khmer, (1, 2, 2, 3), "", ("។", " ")),
    "burmese": Script(_burmese, (1, 2, 2, 3), "", ("။", "၊")),
    "hindi": Script(_hindi, (1, 2, 2, 3), " ", ("। ", ", ")),
    "english": Script(_english, (2, 2, 3), " ", (". ", ", ")),
}
UNSPACED = ("chinese", "japanese", "thai", "lao", "khmer", "burmese")
"""Names of the scripts without white space between words."""


@functools.cache
def vocabulary(name: str) -> list[str]:
    """Return the words of a script, the most frequent one first."""
    script, rng = SCRIPTS[name], random.Random(name)
    return ["".join(script.syllable(rng) for _ in range(rng.choice(script.sizes))) for _ in range(WORDS)]


def text(name: str, words: int, seed: int = 0) -> str:
    """Return a text of so many words, in sentences of 6 to 16 of them."""
    script, rng = SCRIPTS[name], random.Random(f"{name} {seed}")
    sentences = []
    while words > 0:
        size = min(words, rng.randint(6, 16))
        words -= size
        chosen = rng.choices(vocabulary(name), cum_weights=SUMS, k=size)
        sentences.append(script.space.join(chosen) + rng.choice(script.ends))
    return "".join(sentences)
