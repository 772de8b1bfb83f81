"""Distributions of the typed columns of the published records, and how they correlate, from a sample of them.

The sample is chosen by the hash of the record id, so that equal data give equal figures in any order and partitioning.
It holds about SAMPLED_VALUES values; smaller data sets are counted whole.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy import stats

from etl.figures.facts import Correlation, Distribution
from etl.figures.vocabulary import FEWEST_RECORDS
from etl.normalisers.date import days
from etl.rules.personal_data import Mask
from etl.spark.sampling import in_sample
from schemas.config import Configuration
from schemas.features import ScalarFeature, TypedFeature
from schemas.features.boolean import BooleanFeature
from schemas.features.date import DateFeature

SAMPLED_VALUES = 2_000_000
BINS = 24
OUTER = 0.01
"""Share of the values at either end that the outermost bin takes in, however far off they are."""
MOST_NAMES = 12
OTHERS = "(others)"
MOST_CORRELATED = 30
Floats = npt.NDArray[np.float64]


def column_figures(
    config: Configuration, fields: DataFrame, ledger: DataFrame, records: int
) -> tuple[dict[str, Distribution], Correlation | None]:
    """Return the distribution of each typed feature, and the correlation of those of numbers and dates.

    `fields` and `ledger` are those tables of silver; `records` is the number of published ones.
    """
    features = config.typed_features()
    if not features:
        return {}, None
    share = SAMPLED_VALUES / max(1, records * len(features))
    wanted = F.lit(True) if share >= 1 else in_sample(share, "columns")
    published = ledger.where("split IS NOT NULL").where(wanted).select("record_id")
    columns = [F.col(feature.column).alias(f"column_{place}") for place, feature in enumerate(features)]
    narrow = fields.where(wanted).select("record_id", *columns).join(published, "record_id", "left_semi")
    table = narrow.drop("record_id").toArrow()
    mask = Mask(config.clean)
    found: dict[str, Distribution] = {}
    numbers: dict[str, Floats] = {}
    for place, feature in enumerate(features):
        values = table[f"column_{place}"].to_pylist()
        if isinstance(feature, ScalarFeature):
            numbers[feature.name] = _numbers(values, feature)
            found[feature.name] = of_numbers(numbers[feature.name])
        elif isinstance(feature, BooleanFeature):
            found[feature.name] = of_names(values, fewest=1)
        else:
            found[feature.name] = of_names(values, mask)
    return found, correlation(numbers)


def _numbers(values: Sequence[str | None], feature: TypedFeature) -> Floats:
    number = days if isinstance(feature, DateFeature) else float
    return np.array([math.nan if value is None else number(value) for value in values], np.float64)


def of_numbers(values: Floats) -> Distribution:
    """Return the distribution of numbers, NaN where missing, in BINS of equal width."""
    present = values[~np.isnan(values)]
    missing = len(values) - len(present)
    if not len(present):
        return Distribution(len(values), missing, [], [], [])
    low, high = np.quantile(present, [OUTER, 1 - OUTER]).tolist()
    if low == high:  # nearly all are one value
        low, high = float(np.min(present)), float(np.max(present))
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    counts = np.histogram(np.clip(present, low, high), edges)[0]
    return Distribution(len(values), missing, edges.tolist(), counts.tolist(), [])


def of_names(
    values: Sequence[str | None], mask: Callable[[str], str] = str, fewest: int = FEWEST_RECORDS
) -> Distribution:
    """Return the distribution of categories or truth values, the most frequent first, the rest as OTHERS.

    Names of fewer than `fewest` values are among the rest, and the others are masked: either may tell of a person.
    """
    counts = Counter(value for value in values if value is not None)
    often = [name for name, count in counts.items() if count >= fewest]
    first = sorted(often, key=lambda name: (-counts[name], name))[:MOST_NAMES]
    shown = Counter[str]()
    for name in first:
        shown[mask(name) or OTHERS] += counts[name]
    if rest := counts.total() - shown.total():
        shown[OTHERS] += rest
    return Distribution(len(values), len(values) - counts.total(), [], list(shown.values()), list(shown))


def correlation(numbers: dict[str, Floats]) -> Correlation | None:
    """Return Spearman's rank correlation of each two of the first MOST_CORRELATED columns; None below two columns.

    A pair is compared on the records that have both values; None where one of the two is constant there. Ranks, since
    a few extreme values decide about Pearson's (C. Spearman, *Am. J. Psychol.* 15, 1904).
    """
    names = list(numbers)[:MOST_CORRELATED]
    if len(names) < 2:
        return None
    whole = {name: stats.rankdata(numbers[name]) for name in names if not np.isnan(numbers[name]).any()}
    values: list[list[float | None]] = [[None] * len(names) for _ in names]
    for i, one in enumerate(names):
        for j, other in enumerate(names[: i + 1]):
            both = ~np.isnan(numbers[one]) & ~np.isnan(numbers[other])
            ranks = [
                whole[name] if both.all() and name in whole else stats.rankdata(numbers[name][both])
                for name in (one, other)
            ]
            if both.sum() < 2 or any(np.ptp(rank) == 0 for rank in ranks):
                continue
            values[i][j] = values[j][i] = round(float(np.corrcoef(*ranks)[0, 1]), 4)
    return Correlation(names, values)


def rebinned(now: Distribution, edges: Sequence[float]) -> list[float]:
    """Return the counts of a distribution of numbers in other bins, as if the values of a bin were spread evenly.

    The outermost bins take in all that lies beyond them, as those of a distribution do.
    """
    mine, counts = np.asarray(now.edges), np.asarray(now.counts, np.float64)
    so_far = np.concatenate([[0.0], np.cumsum(counts)])
    found = np.interp(np.asarray(edges), mine, so_far)
    found[0], found[-1] = 0.0, so_far[-1]
    moved: list[float] = np.diff(found).tolist()
    return moved


def shares_before_and_now(before: Distribution, now: Distribution) -> tuple[dict[str, int], dict[str, int]]:
    """Return both distributions over the same bins or names, and missing values, for a distance between them."""
    if now.edges and before.edges:
        counts = (before.counts, [round(count) for count in rebinned(now, before.edges)])
        pair = [dict(zip(map(str, range(len(each))), each, strict=True)) for each in counts]
    else:
        # Names that are not among the first of the other version count as others there.
        shared = set(before.names) & set(now.names)
        pair = [_with_others(each, shared) for each in (before, now)]
    return {**pair[0], "missing": before.missing}, {**pair[1], "missing": now.missing}


def _with_others(one: Distribution, names: set[str]) -> dict[str, int]:
    found = Counter[str]()
    for name, count in zip(one.names, one.counts, strict=False):
        found[name if name in names else OTHERS] += count
    return dict(found)
