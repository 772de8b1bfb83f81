"""The words of a sample of the records, which `clean` notes in silver/fields for the comparison of versions."""

import re
from collections.abc import Iterable

from pyspark.sql import Column

from etl.sampling import in_sample

SAMPLED_CHARACTERS = 20_000_000
WORD = re.compile(r"[^\W\d_]+")
"""Letters alone: no number, of a telephone or an account, is a word."""


def words_of(texts: Iterable[str]) -> list[str]:
    """The distinct words of a record's texts, sorted: runs of letters, case-folded."""
    return sorted({word for text in texts for word in WORD.findall(text.casefold())})


def share_of(characters: int) -> float:
    """The share of the records, 0 to 1, that hold about SAMPLED_CHARACTERS if all hold `characters`."""
    return min(1.0, SAMPLED_CHARACTERS / characters) if characters else 1.0


def is_sampled(share: float) -> Column | None:
    """Whether a record is in the sample of that share, by the hash of its `record_id`; None where all are.

    A smaller share gives a part of a larger one.
    """
    return in_sample(share, "words") if share < 1 else None
