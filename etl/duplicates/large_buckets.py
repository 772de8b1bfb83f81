"""Near-duplicates among the members of a large bucket, without listing all of its pairs.

The members of a large bucket have much in common: a header, or the document that all were made from. Take as the
*core* the shingles that more than half of them contain, and describe each set x by its difference x' from the core
(what it adds and what it lacks). Differences are small, and |x Δ y| = |x' Δ y'|, so that with similarity t

    Jaccard(x, y) >= t  <=>  |x' Δ y'| <= k (|x| + |y|),  k = (1 - t) / (1 + t)
                        <=>  |x' ∩ y'| >= (e(x) + e(y)) / 2,  e(x) = |x'| - k |x|  (the excess of x).

- Where e(x) + e(y) <= 0 the pair is similar whatever it has in common. All such pairs are connected by way of the
  set of the smallest excess, which is compared with every set that it is similar to for this reason.
- All other similar pairs have elements of x' and y' in common, and those are elements that occur twice in the
  bucket's differences at least. Sets with too few of these are done.
- What is left shares one of its rarest elements (prefix filter: Chaudhuri, Ganti and Kaushik 2006, "A primitive
  operator for similarity joins in data cleaning"; Xiao et al. 2008, "Efficient similarity joins for near duplicate
  detection", here for differences instead of sets). The sets that have an element in their prefixes are a smaller
  bucket, of at most half the members; it is treated in the same way.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from etl.duplicates.connecting import SMALL_BUCKET, Buckets, Ints
from etl.duplicates.similarity import SLACK, SimilarSets

Floats = npt.NDArray[np.float64]

DROPPED = 8  # when an eighth of the members are done, a new core for the others pays off


def connect_buckets(sets: SimilarSets, buckets: Buckets) -> None:
    """Connect all pairs of members of a bucket that are similar, directly or by way of others."""
    small = buckets.sizes <= SMALL_BUCKET
    for rows in buckets.where(~small).each():
        # What follows takes any two members for similar that have enough in common: so only short texts with the same
        # signs are together.
        signs = sets.signs[rows]
        alike = Buckets.of(signs, rows)
        few = alike.sizes <= SMALL_BUCKET
        for some in alike.where(~few).each():
            connect_large(sets, some)
        sets.connect_small(alike.where(few))
        _connect_long_with_short(sets, rows[signs == 0], rows[signs != 0])
    sets.connect_small(buckets.where(small))


def _connect_long_with_short(sets: SimilarSets, longs: Ints, shorts: Ints) -> None:
    """Connect texts whose signs do not count with short ones, which have different signs and so no core in common.

    Where e(x) + e(y) <= 0, x long and y short: x is similar to the short text of the smallest excess, y to the long one
    of the smallest, and these two to each other. The pairs that are left have elements of their differences in common.
    """
    rows, is_long = np.concatenate((longs, shorts)), np.arange(len(longs) + len(shorts)) < len(longs)
    if not len(longs) or not len(shorts) or len(np.unique(sets.labels_of(rows))) < 2:
        return
    found = _Differences.of(sets, rows)
    nearest = longs[np.argmin(found.excess[is_long])]
    sets.connect(np.broadcast_to(shorts[np.argmin(found.excess[~is_long])], longs.shape), longs)
    sets.connect(np.broadcast_to(nearest, shorts.shape), shorts)
    near = sets.labels_of(rows) == sets.labels_of(nearest[None])
    for one, other in ((near & is_long, ~near & ~is_long), (~near & is_long, ~is_long)):
        if not one.any() or not other.any():
            continue
        least: Floats = np.where(is_long, np.min(found.excess[other]), np.min(found.excess[one]))
        parts = _by_prefixes(sets, rows, found, one | other, least)
        small = parts.sizes <= SMALL_BUCKET
        if (parts.sizes**2).sum() < one.sum() * other.sum():
            sets.connect_small(parts.where(small))
            for some in parts.where(~small).each():
                sets.connect_across(some[sets.signs[some] == 0], some[sets.signs[some] != 0])
        else:
            sets.connect_across(rows[one], rows[other])


def connect_large(sets: SimilarSets, rows: Ints) -> None:
    """Connect the members of one bucket. `rows` int64: its members, each once."""
    waiting = [rows]
    while waiting:
        rows = waiting.pop()
        parts = sets.in_pieces(_smaller_buckets(sets, rows))
        small = parts.sizes <= SMALL_BUCKET
        sets.connect_small(parts.where(small))
        parts = sets.in_pieces(parts.where(~small))
        if (parts.sizes**2).sum() < len(rows) ** 2:
            waiting.extend(parts.each())
        else:  # the parts overlap so much that they would cost more than the whole
            sets.connect_all(rows)


@dataclass(frozen=True)
class _Differences:
    """Differences of n sets from their core.

    `excess` float64 (n,) as above. `common` int64 (n,): number of elements of a set's difference that others have
    too; these are `elements`, numbered from the rarest, of the sets `owners` (int64, places in 0..n-1).
    """

    excess: Floats
    common: Ints
    owners: Ints
    elements: Ints

    @classmethod
    def of(cls, sets: SimilarSets, rows: Ints) -> "_Differences":
        part = sets.matrix[rows]
        count = len(rows)
        owners = np.repeat(np.arange(count, dtype=np.int32), np.diff(part.indptr))
        codes, frequency = _renumbered(part.indices, part.shape[1])
        core = np.flatnonzero(2 * frequency > count)
        inside = (2 * frequency > count)[codes]
        held = np.bincount(owners[inside], minlength=count)
        sizes = sets.sizes[rows]
        distance = sizes + len(core) - 2 * held
        has = np.zeros((count, len(core)), dtype=bool)
        place = np.empty(len(frequency), dtype=np.int64)
        place[core] = np.arange(len(core))
        has[owners[inside], place[codes[inside]]] = True
        lacking, lacked = np.nonzero(~has)
        lacked = core[lacked]

        frequency[core] = count - frequency[core]
        rank = np.empty(len(frequency), dtype=np.int64)
        rank[np.argsort(frequency, kind="stable")] = np.arange(len(frequency))
        added = ~inside & (frequency > 1)[codes]
        known = frequency[lacked] > 1
        found = np.concatenate((owners[added].astype(np.int64), lacking[known]))
        elements = rank[np.concatenate((codes[added], lacked[known]))]
        excess = distance - (1 - sets.similarity) / (1 + sets.similarity) * sizes
        return cls(excess, np.bincount(found, minlength=count), found, elements)


def _renumbered(codes: npt.NDArray[np.int32], width: int) -> tuple[Ints, Ints]:
    """Return the codes as numbers from 0 without gaps, in the same order, and the frequency of each."""
    if len(codes) * 16 < width:
        _, numbers, counts = np.unique(codes, return_inverse=True, return_counts=True)
        return numbers.astype(np.int64), counts.astype(np.int64)
    frequency = np.bincount(codes, minlength=width)
    present = frequency > 0
    return (np.cumsum(present) - 1)[codes], frequency[present]


def _smaller_buckets(sets: SimilarSets, rows: Ints) -> Buckets:
    """Connect sets near the core; return buckets in which each pair that may still have to be connected shares one."""
    nothing = Buckets(rows[:0], np.zeros(1, dtype=np.int64))
    while True:
        if len(np.unique(sets.labels_of(rows))) < 2:
            return nothing
        found = _Differences.of(sets, rows)
        excess = found.excess
        nearest = int(np.argmin(excess))
        near = np.flatnonzero(excess + excess[nearest] <= SLACK)
        sets.connect(np.broadcast_to(rows[nearest], near.shape), rows[near])
        labels = sets.labels_of(rows)
        if (labels == labels[0]).all():
            return nothing
        # A pair has at most `common` elements of either in common: e(x) + e(y) <= 2 common(x), and so for y.
        room = 2 * found.common - excess
        least, most = _among_others(labels, excess, np.minimum), _among_others(labels, room, np.maximum)
        keep = (excess <= most + SLACK) & (room >= least - SLACK)
        kept = int(keep.sum())
        if not kept:
            return nothing
        if len(rows) - kept < len(rows) / DROPPED:
            return _by_prefixes(sets, rows, found, keep, least)
        rows = rows[keep]


def _among_others(labels: Ints, values: Floats, best: np.ufunc) -> Floats:
    """Return a bound on the smallest (largest) value among sets of other components, for each set.

    It is exact for the largest component.
    """
    names, places, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    largest = places == int(np.argmax(sizes))
    everywhere = best.reduce(values)
    elsewhere = best.reduce(values[~largest]) if len(names) > 1 else -everywhere
    bounds: Floats = np.where(largest, elsewhere, everywhere)
    return bounds


def _by_prefixes(
    sets: SimilarSets, rows: Ints, found: _Differences, keep: npt.NDArray[np.bool_], least: Floats
) -> Buckets:
    """Return buckets of the kept sets, one for each element that two have in their prefixes.

    Of a similar pair let x be the one of smaller excess. `least` bounds the excess of sets that a set may be similar
    to. So they have at least (e(x) + max(e(x), least(x))) / 2 and (e(y) + least(y)) / 2 elements in common; also y
    has at most (1 - t) / t |y| elements that x has not. With c elements in common in one order, the first common(x) -
    c + 1 of x and the first common(y) - c + 1 of y have one in common.
    """
    excess, sizes, t = found.excess, sets.sizes[rows], sets.similarity
    distance = excess + (1 - t) / (1 + t) * sizes
    as_smaller = np.ceil((excess + np.maximum(excess, least)) / 2 - SLACK)
    as_larger = np.ceil(np.maximum((excess + least) / 2, distance - (1 - t) / t * sizes) - SLACK)
    shorter, longer = (
        np.where(keep, found.common - np.maximum(least_common, 1) + 1, 0)
        for least_common in (as_smaller, as_larger)
    )
    chosen = keep[found.owners]
    owners, elements = found.owners[chosen], found.elements[chosen]
    order = np.argsort(owners * (int(np.max(elements, initial=0)) + 1) + elements)
    owners, elements = owners[order], elements[order]
    place = np.arange(len(owners)) - np.searchsorted(owners, np.arange(len(rows)))[owners]
    probed = np.unique(elements[place < shorter[owners]])
    listed = (place < np.maximum(shorter, longer)[owners]) & np.isin(elements, probed)
    return Buckets.of(elements[listed], rows[owners[listed]])
