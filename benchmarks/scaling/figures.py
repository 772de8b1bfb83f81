"""Ratios from turns."""

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.scaling.cases import CEILING


def schedule(names: Sequence[str], number: int) -> list[str]:
    """Return the order of pass `number`: the ceiling, two cases, the ceiling, … and the ceiling; odd ones backwards."""
    others = [name for name in names if name != CEILING]
    order = [CEILING]
    for first in range(0, len(others), 2):
        order += [*others[first : first + 2], CEILING]
    return order if number % 2 == 0 else order[::-1]


def ratios(order: Sequence[str], rates: Sequence[float]) -> dict[str, float]:
    """Return each case's rate over the mean of the ceiling's before and after it, in one pass."""
    found = {}
    for place, name in enumerate(order):
        if name != CEILING:
            before = max(i for i in range(place) if order[i] == CEILING)
            after = min(i for i in range(place + 1, len(order)) if order[i] == CEILING)
            found[name] = 2 * rates[place] / (rates[before] + rates[after])
    return found


def medians(passes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each case over all passes."""
    return {name: median(each[name] for each in passes) for name in passes[0]}
