"""Anomaly scores of rows: thresholds, and the figures that labels give them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from common.errors import CheckError
from training.comparison.assessment import RowResults

MOST_BINS = 4_096
"""Distinct scores up to which resampled figures are exact; more are joined by rank, never across the threshold."""
SHOWN_BINS = 40
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Scored:
    """Scores of the rows of a split by one detector."""

    keys: npt.NDArray[np.uint64]
    """(rows, 2): record keys."""
    scores: Floats
    """(rows,): higher is more anomalous."""
    anomalous: Bools | None
    """(rows,): True for anomalies; None where no label tells."""

    def checked(self, detector: str) -> "Scored":
        """Return the same. Raises CheckError for scores that are no numbers, which have no order."""
        unknown = int((~np.isfinite(self.scores)).sum())
        if unknown:
            raise CheckError(
                f"{detector} gives {unknown:,} of {len(self.scores):,} rows a score that is not finite: train it again "
                "with a smaller optimizer.learning_rate, or scale its features"
            )
        return self


@dataclass(frozen=True)
class Threshold:
    """Score from which on a row counts as an anomaly, as the validation split has it."""

    value: float
    chosen_by: Literal["precision", "f1", "contamination"]
    """`f1`: the wanted precision could not be reached."""
    wanted: float
    """The precision or the share of rows that it aims at."""
    rows: int
    """Rows of the validation split."""
    precision: float | None
    """On the validation split; None without labels."""
    recall: float | None


def by_precision(scored: Scored, wanted: float) -> Threshold:
    """Return the threshold of the highest recall among those of at least the wanted precision on labelled rows.

    Where none reaches it, that of the highest F1. It lies half-way between the last score flagged and the next.
    Raises ValueError without labels, or without an anomaly.
    """
    if scored.anomalous is None or not scored.anomalous.any():
        raise ValueError("a threshold by precision needs rows that are labelled as anomalies")
    distinct, place = np.unique(-scored.scores, return_inverse=True)
    found = np.bincount(place[scored.anomalous], minlength=len(distinct)).cumsum()
    flagged = np.bincount(place, minlength=len(distinct)).cumsum()
    precision, recall = found / flagged, found / scored.anomalous.sum()
    good = np.flatnonzero(precision >= wanted)
    f1 = 2 * found / (flagged + scored.anomalous.sum())
    # The last of those of equal recall would flag normal rows alone.
    best = int(good[np.argmax(recall[good])]) if len(good) else int(np.argmax(f1))
    return Threshold(
        _between(-distinct, best),
        "precision" if len(good) else "f1",
        wanted,
        len(scored.scores),
        float(precision[best]),
        float(recall[best]),
    )


def by_contamination(scored: Scored, share: float) -> Threshold:
    """Return the threshold above which this share of the rows lies, to the nearest row; at least one does."""
    distinct, counts = np.unique(-scored.scores, return_counts=True)
    flagged = counts.cumsum()
    best = int(np.argmin(np.abs(flagged - share * len(scored.scores))))
    return Threshold(_between(-distinct, best), "contamination", share, len(scored.scores), None, None)


def _between(descending: Floats, last: int) -> float:
    """Return a number above which the distinct scores up to place `last` lie, and no other."""
    if last + 1 == len(descending):
        return float(descending[last])
    middle = float((descending[last] + descending[last + 1]) / 2)
    return middle if middle > descending[last + 1] else float(descending[last])


def figures(scored: Scored, threshold: float) -> dict[str, float]:
    """Return precision, recall, F1, average precision and ROC AUC of labelled rows, and the threshold."""
    parts, outcomes = _histogram(scored, threshold, len(scored.scores))
    sums = parts.T @ np.bincount(outcomes, minlength=parts.shape[0])
    found = resampled(np.asarray(sums, np.float64)[None])
    return {name: float(values[0]) for name, values in found.items()} | {"threshold": threshold}


def row_results(scored: Scored, threshold: float) -> RowResults:
    """Return the results of labelled rows, to be compared with those of other detectors on the same rows.

    Average precision and ROC AUC are exact for up to `MOST_BINS` distinct scores.
    """
    parts, outcomes = _histogram(scored, threshold, MOST_BINS)
    # Two detectors differ on a row where only one flags it: their scores are never the same.
    return RowResults(scored.keys, outcomes, parts, resampled, telling_parts=2)


def _histogram(
    scored: Scored, threshold: float, most: int
) -> tuple[sparse.csr_matrix, npt.NDArray[np.int64]]:
    """Return what a row of each outcome adds to the sums of `resampled`, (outcomes, 2 + 2 × bins), and the outcome of
    each row, (rows,), from at most so many bins.
    """
    assert scored.anomalous is not None
    distinct, place = np.unique(-scored.scores, return_inverse=True)
    flagged = int(np.searchsorted(distinct, -threshold, side="right"))
    if len(distinct) > most:
        above = min(most - 1, max(int(flagged > 0), round(most * flagged / len(distinct))))
        below, rest = most - above, max(1, len(distinct) - flagged)
        joined = np.where(
            place < flagged, place * above // max(1, flagged), above + (place - flagged) * below // rest
        )
        place, flagged = joined, above
    bins = min(len(scored.scores), most)
    kinds, outcomes = np.unique(2 * place + scored.anomalous, return_inverse=True)
    at, anomalous, rows = kinds // 2, kinds % 2, np.arange(len(kinds))
    values = np.concatenate([at < flagged, np.ones(len(kinds))]).astype(np.float64)
    columns = np.concatenate([anomalous, 2 + anomalous * bins + at])
    shape = (len(kinds), 2 + 2 * bins)
    return sparse.csr_matrix((values, (np.tile(rows, 2), columns)), shape=shape), outcomes.ravel()


def resampled(sums: Floats) -> Mapping[str, Floats]:
    """Return the figures for each row of sums, (n,) each, NaN where a class has no row.

    `sums`, (n, 2 + 2 × bins), are rows flagged, of which normal and anomalous; then normal rows by bin of the score,
    the highest first; then anomalous rows likewise.
    """
    flagged_normal, flagged_anomalous = sums[:, 0], sums[:, 1]
    normal, anomalous = np.split(sums[:, 2:], 2, axis=1)
    all_normal, all_anomalous = normal.sum(axis=1), anomalous.sum(axis=1)
    normal_so_far, found_so_far = normal.cumsum(axis=1), anomalous.cumsum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = flagged_anomalous / all_anomalous
        precision_here = found_so_far / np.maximum(1, found_so_far + normal_so_far)
        average = (anomalous * precision_here).sum(axis=1) / all_anomalous
        # A tie counts half.
        behind = all_normal[:, None] - normal_so_far + normal / 2
        auc = (anomalous * behind).sum(axis=1) / (all_anomalous * all_normal)
    return {
        "precision": flagged_anomalous / np.maximum(1, flagged_anomalous + flagged_normal),
        "recall": recall,
        "f1": 2 * flagged_anomalous / np.maximum(1, flagged_anomalous + flagged_normal + all_anomalous),
        "average_precision": average,
        "roc_auc": auc,
    }


def distribution(scored: Scored, threshold: float) -> dict[str, Any]:
    """Return a histogram of the scores for the run report: the edges of its bins, and the rows of each by class."""
    low = max(float(np.min(scored.scores)), 1e-12)
    high = max(float(np.max(scored.scores)), threshold, low * 1.001)
    edges = np.geomspace(low, high, SHOWN_BINS + 1)
    scores = np.clip(scored.scores, low, high)
    classes = {"rows": np.ones(len(scores), bool)}
    if scored.anomalous is not None:
        classes = {"normal": ~scored.anomalous, "anomalous": scored.anomalous}
    counts = {name: np.histogram(scores[mine], edges)[0].tolist() for name, mine in classes.items()}
    return {"edges": edges.tolist(), "rows": counts}
