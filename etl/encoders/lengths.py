"""Lengths that keep a share of all tokens: what `feature.length` cuts away, and what it would have to be."""

from collections.abc import Iterable
from fractions import Fraction
from math import ceil

from pyspark.sql import Column
from pyspark.sql import functions as sf

from schemas.features import TextFeature
from schemas.kept_tokens import KEPT

BITS = 10
"""Binary digits that counts of tokens are told apart by: exact below 1,024, to a thousandth above."""


def rounded(tokens: Column) -> Column:
    """Round counts of tokens down to `BITS` binary digits, so that any data set has few thousand different ones."""
    place = sf.pow(sf.lit(2), sf.greatest(sf.lit(0), sf.length(sf.bin(tokens)) - BITS)).cast("bigint")
    return tokens - tokens % place


def tokens_cut(tokens: Column, feature: TextFeature) -> Column:
    """Return how many tokens of a text the length of a feature cuts off."""
    return sf.lit(0) if feature.limit is None else sf.greatest(tokens - feature.limit, sf.lit(0))


def keeping(counts: Iterable[tuple[int, int]]) -> dict[str, int]:
    """Return the smallest length that keeps each share of `KEPT` of all tokens, by percentage.

    `counts` are (rows, tokens of these together) for rows of the same count of tokens; a row keeps its tokens up to the
    length.
    """
    known = sorted(((Fraction(tokens, rows), rows, tokens) for rows, tokens in counts if rows), reverse=True)
    whole, rows_left = sum(tokens for _, _, tokens in known), sum(rows for _, rows, _ in known)
    found, complete = dict.fromkeys(KEPT, 0), 0
    wanted, longest = [percentage for percentage in KEPT if whole], ceil(known[0][0]) if known else 0
    while known and wanted:
        # Rows up to this one are complete; of all longer ones, each has as many tokens.
        each, rows, tokens = known[-1]
        length = ceil((Fraction(int(wanted[0]) * whole, 100) - complete) / rows_left)
        if length <= each:
            found[wanted.pop(0)] = length
        else:
            complete, rows_left = complete + tokens, rows_left - rows
            known.pop()
    for percentage in wanted:  # where rounded counts leave a fraction of a token
        found[percentage] = longest
    return found
