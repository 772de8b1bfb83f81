"""Statistics of a comparison on the same rows: McNemar's test, Wilson's interval, and the paired bootstrap."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import sparse, special

LEVEL = 0.95
"""Level of all intervals; a difference is claimed where its interval leaves out zero."""
REPLICATES = 2_000
SEED = 0
CELLS = 1 << 22
"""Numbers that a chunk of replicates holds at a time: 32 MiB."""

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]


def mcnemar(first: int, second: int) -> float:
    """Return the two-sided mid-p value of McNemar's test.

    `first` and `second` are the rows that only one of two models has right. The mid-p value keeps to its level without
    the conservatism of the exact test (Fagerland, Lydersen and Laake, *BMC Med. Res. Methodol.* 13:91, 2013).
    """
    fewer, whole = min(first, second), first + second
    if first == second:
        return 1.0
    below = special.bdtr(fewer - 1, whole, 0.5) if fewer else 0.0
    return float(special.bdtr(fewer, whole, 0.5) + below)


def wilson(right: int, rows: int) -> Interval:
    """Return the score interval of a share of independent rows (Wilson, *J. Am. Stat. Assoc.* 22, 1927)."""
    z = float(special.ndtri((1 + LEVEL) / 2))
    middle, scale = (right + z * z / 2) / (rows + z * z), z / (rows + z * z)
    half = scale * np.sqrt(right * (rows - right) / rows + z * z / 4)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def tail(units: int) -> float:
    """Return the share of replicates to leave out at each end of an interval.

    A percentile interval is too narrow where units are few, so it is widened as Student's t widens a normal one
    (Hesterberg, *Am. Stat.* 69, 2015).
    """
    if units < 2:
        return 0.0
    quantile = special.stdtrit(units - 1, (1 - LEVEL) / 2)
    return float(special.ndtr(quantile * np.sqrt(units / (units - 1))))


def interval(replicates: Floats, units: int) -> Floats:
    """Return the ends of the percentile interval of `units` resampled units: (2, …) for (replicates, …)."""
    share = tail(units)
    return np.quantile(replicates, [share, 1 - share], axis=0)


def finite_width(ends: Floats) -> Interval | None:
    """Return the two ends of an interval as numbers; None where they are one, which tells nothing."""
    low, high = ends.tolist()
    return (low, high) if low < high else None


def bootstrap_p(differences: Floats, units: int) -> float:
    """Return the two-sided p value of replicates of a difference, (replicates,), that belongs to `interval`."""
    if units < 2:
        return 1.0
    beyond = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    share = (beyond + 1) / (len(differences) + 1)
    if share >= 0.5:
        return 1.0
    t = special.ndtri(share) * np.sqrt((units - 1) / units)
    return float(2 * special.stdtr(units - 1, t))


def replicates(parts: sparse.csr_matrix, times: npt.NDArray[np.int64]) -> Iterator[Floats]:
    """Yield sums over resampled units, (some replicates, columns of `parts`), in all `REPLICATES`.

    Each replicate draws as many units as there are, with replacement (Efron, *Ann. Stat.* 7, 1979). `parts` has what a
    unit adds, and `times` how many units are of each kind. Equal arguments give equal replicates.
    """
    random = np.random.default_rng(SEED)
    whole, by_column = int(times.sum()), parts.T.tocsr()
    size = max(1, CELLS // max(parts.shape))
    for first in range(0, REPLICATES, size):
        count = min(size, REPLICATES - first)
        drawn = random.multinomial(whole, times / whole, size=count)
        yield np.asarray(by_column @ drawn.T.astype(np.float64)).T
