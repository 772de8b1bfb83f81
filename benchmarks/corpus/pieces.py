"""The table of pieces that every generated line is put together from.

A piece is a word with what follows it (`Tavero, `), a number, or a part of the JSON around the text. Each piece of a
text holds exactly one token (a run of `\\w`), and pieces with the same token (in NFKC, casefolded) have the same token
id; so the shingles of a text are known from its pieces.
"""

import functools
import re
import unicodedata
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.corpus.randomness import below, hashed

COMMON_WORDS = 1 << 15
"""By rank; the frequent ones are short."""
ACCENTED_EVERY = 16
"""In documents with letters beyond ASCII, one rank in so many has words with an accent."""
WORDS = COMMON_WORDS + COMMON_WORDS // ACCENTED_EVERY
NUMBERS = 1000
TERMS = WORDS + NUMBERS
"""Words, then the numbers 000 to 999."""

SUFFIXES = (" ", ", ", "; ", ": ", "? ", ". ", r".\n\n", ".", "@", "-")
SPACE, COMMA, SEMICOLON, COLON, QUESTION, STOP, PARAGRAPH, END, AT, DASH = range(len(SUFFIXES))
FORMS = 2 * len(SUFFIXES)
"""Each suffix in lower case, then each with a capital."""

CLASSES = 20
DOMAINS = 500
DAYS = 3650
AREA_CODES = (202, 212, 213, 305, 312, 404, 415, 503, 602, 617, 702, 713)
TOP_LEVEL = ("org", "net", "com", "edu")
MALFORMED = ("invalid_json", "wrong_type", "missing_column", "invalid_utf8")
"""Damage done to a record, by the reason that the quarantine gives for it."""
_OPENINGS = {"wrong_type": '","text":["', "missing_column": '","body":"'}
_CLOSINGS = {"invalid_json": b"\n", "wrong_type": b'"]}\n', "invalid_utf8": b'\xff"}\n'}

_ONSETS = (*"bcdfghklmnprstvzbdlmnprst", "br", "cl", "dr", "st", "tr", "pl")
_VOWELS = (*"aeiouaeo", "ai", "ea")
_CODAS = ("", "", "", "n", "r", "s", "l", "nd", "st")
_ACCENTS = str.maketrans("aeiou", "áèîöü")


@dataclass(frozen=True)
class Pieces:
    """`table`: the bytes of each piece. `token`: int32, its token id; -1 for the JSON around the texts. The other
    fields are the numbers of the first piece of a kind; those of a word in a form are `form * TERMS + term`.
    """

    table: pa.Array
    token: npt.NDArray[np.int32]
    digits: int
    label: int
    domain: int
    day: int
    minute: int
    second: int
    area: int
    line: int
    top_level: int
    opening: int
    """Opening of the text: the sound one, then one for each of MALFORMED."""
    closing: int
    heads: tuple[int, int, int, int]
    """Pieces before the id, the label, the source and the time."""


@functools.cache
def words() -> tuple[str, ...]:
    """Return WORDS different pronounceable words, accented ones last."""
    found: dict[str, None] = {}
    number = 0
    while len(found) < COMMON_WORDS:
        syllables = 1 if len(found) < 180 else 2 if len(found) < 12_000 else 3
        drawn = hashed(7, np.arange(number, number + 2 * syllables + 1)).tolist()
        number += 2 * syllables + 1
        word = "".join(
            _ONSETS[onset % len(_ONSETS)] + _VOWELS[vowel % len(_VOWELS)]
            for onset, vowel in zip(drawn[0::2], drawn[1::2], strict=False)
        )
        found.setdefault(word + _CODAS[drawn[-1] % len(_CODAS)])
    common = list(found)
    accented = (word.translate(_ACCENTS) for word in common[ACCENTED_EVERY - 1 :: ACCENTED_EVERY])
    return (*common, *accented)


@functools.cache
def pieces() -> Pieces:
    """Build the table, in half a second."""
    terms = [*words(), *(f"{number:03}" for number in range(NUMBERS))]
    capitals = [term.capitalize() for term in terms]
    table = [(term + suffix).encode() for cased in (terms, capitals) for suffix in SUFFIXES for term in cased]
    token = np.tile(np.arange(TERMS, dtype=np.int32), FORMS).tolist()
    token_ids = {term: number for number, term in enumerate(terms)}

    def add(texts: list[bytes], with_token: bool = False) -> int:
        first = len(table)
        table.extend(texts)
        for text in texts:
            (only,) = re.findall(r"\w+", normalised(text.decode())) if with_token else (None,)
            token.append(-1 if only is None else token_ids.setdefault(only, len(token_ids)))
        return first

    first_day = date(2015, 1, 1)
    domain_words = below(hashed(8, np.arange(DOMAINS)), COMMON_WORDS)
    places = {
        "digits": add([f"{number:03}".encode() for number in range(NUMBERS)]),
        "label": add([f"class-{number:02}".encode() for number in range(CLASSES)]),
        "domain": add([f"{words()[word]}.example/".encode() for word in domain_words]),
        "day": add([(first_day + timedelta(days=day)).isoformat().encode() for day in range(DAYS)]),
        "minute": add([f"T{minute // 60:02}:{minute % 60:02}".encode() for minute in range(1440)]),
        "second": add([f":{second:02}Z".encode() for second in range(60)]),
        "area": add([f"({code}) ".encode() for code in AREA_CODES], with_token=True),
        "line": add([f"{number:04} ".encode() for number in range(10_000)], with_token=True),
        "top_level": add([f"{name} ".encode() for name in TOP_LEVEL], with_token=True),
        "opening": add([_OPENINGS.get(kind, '","text":"').encode() for kind in ("", *MALFORMED)]),
        "closing": add([_CLOSINGS.get(kind, b'"}\n') for kind in ("", *MALFORMED)]),
    }
    head = add([b'{"id":"', b'","label":"', b'","source":"https://', b'","time":"'])
    heads = (head, head + 1, head + 2, head + 3)
    return Pieces(pa.array(table, pa.binary()), np.array(token, dtype=np.int32), heads=heads, **places)


def normalised(text: str) -> str:
    """Return the text whose runs of `\\w` are its tokens."""
    return unicodedata.normalize("NFKC", text).casefold()


def accented(terms: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return the words of a document with letters beyond ASCII, from those of an all-ASCII one."""
    has_accent = (terms < COMMON_WORDS) & (terms % ACCENTED_EVERY == ACCENTED_EVERY - 1)
    found: npt.NDArray[np.int32] = np.where(has_accent, COMMON_WORDS + terms // ACCENTED_EVERY, terms)
    return found
