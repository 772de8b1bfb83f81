"""Words of a sample of the records, which `clean` stores in silver/fields for the comparison of versions."""

import re
from collections.abc import Iterable
from itertools import pairwise

from pyspark.sql import Column
from pyspark.sql import functions as F

from common.words import LETTERS_WITHOUT_SPACES, characters, has_unspaced
from etl.spark.sampling import in_sample

SAMPLED_CHARACTERS = 20_000_000
FEWEST_SAMPLED = 5_000
"""Records that are sampled at least, also where the files they come from hold little text."""
LONGEST = 100_000
"""Characters of a text to inspect."""
WORD = re.compile(r"[^\W\d_]+")
"""Letters alone: no number, of a telephone or an account, is a word."""


def words_of(texts: Iterable[str]) -> list[str]:
    """Return the distinct words of a record's texts, sorted: runs of letters, case-folded.

    In scripts without white space these are pairs of neighbouring characters, with their marks, as search engines
    index such scripts (Nie and Ren 1999, "Chinese information retrieval: using characters or words?").
    """
    found: set[str] = set()
    for text in texts:
        folded = text[:LONGEST].casefold()
        if has_unspaced(folded):
            for run in LETTERS_WITHOUT_SPACES.findall(folded):
                letters = characters(run)
                found.update(map("".join, pairwise(letters)) if len(letters) > 1 else letters)
            folded = LETTERS_WITHOUT_SPACES.sub(" ", folded)
        found.update(WORD.findall(folded))
    return sorted(found)


def share_of(characters: int, records: int) -> float:
    """Return the share of the records, 0 to 1, that holds about SAMPLED_CHARACTERS if all hold `characters`."""
    return min(1.0, max(SAMPLED_CHARACTERS / max(1, characters), FEWEST_SAMPLED / max(1, records)))


def is_sampled(share: float) -> Column:
    """Return True where a record is in the sample of that share (0 to 1), by the hash of its `record_id`.

    A smaller share gives a part of a larger one.
    """
    return in_sample(share, "words") if share < 1 else F.lit(True)
