"""Accuracy, precision, recall, F1 and the confusion matrix of a classifier's predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from training.comparison.assessment import RowResults

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class: None for one without rows; the precision of one that was never predicted counts as 0."""

    label: str
    rows: int
    """Rows of this class."""
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Scores:
    """Scores of one classifier on one split."""

    rows: int
    accuracy: float
    macro_f1: float
    """Mean F1 over the classes that occur in the split, all with the same weight."""
    macro_precision: float
    macro_recall: float
    classes: list[ClassScores]
    confusion: dict[str, list[int]]
    """Each pair of classes that occurs: `true` and `predicted`, their places in `classes`, and `rows`.

    A matrix of 10,000 classes would have 100 million places, nearly all of them empty.
    """

    def as_json(self) -> dict[str, Any]:
        """Return plain values for a JSON document."""
        return asdict(self)


def scores(labels: Indices, predicted: Indices, names: Sequence[str]) -> Scores:
    """Score predictions; both arrays are (rows,) int64 indices into `names`.

    Raises ValueError if their lengths differ.
    """
    if labels.shape != predicted.shape:
        raise ValueError(f"{labels.shape} labels, but {predicted.shape} predictions")
    size = len(names)
    there, taken = np.bincount(labels, minlength=size), np.bincount(predicted, minlength=size)
    right = np.bincount(labels[labels == predicted], minlength=size).astype(np.float64)
    pairs, rows = np.unique(labels * size + predicted, return_counts=True)
    recall, precision = _share(right, there), _share(right, taken)
    # 2PR / (P + R), in a form that is defined wherever the class occurs.
    f1 = _share(2 * right, there + taken)
    occurs = there > 0

    def macro(values: npt.NDArray[np.float64]) -> float:
        return float(values[occurs].mean()) if occurs.any() else 0.0

    return Scores(
        rows=len(labels),
        accuracy=float(right.sum() / len(labels)) if len(labels) else 0.0,
        macro_f1=macro(f1),
        macro_precision=macro(precision),
        macro_recall=macro(recall),
        classes=[
            ClassScores(name, int(there[i]), float(precision[i]), float(recall[i]), float(f1[i]))
            if there[i]
            else ClassScores(name, 0, None, None, None)
            for i, name in enumerate(names)
        ],
        confusion={
            "true": (pairs // max(1, size)).tolist(),
            "predicted": (pairs % max(1, size)).tolist(),
            "rows": rows.tolist(),
        },
    )


def row_results(
    keys: npt.NDArray[np.uint64], labels: Indices, predicted: Indices, classes: int
) -> RowResults:
    """Return the predictions row by row, to be compared with those of other models on the same rows.

    `keys` are (rows, 2); `labels` and `predicted` as in `scores`. The sums are three blocks of one number a class: rows
    there, rows predicted, rows right.
    """
    kinds, outcomes = np.unique(labels * classes + predicted, return_inverse=True)
    true, taken = kinds // max(1, classes), kinds % max(1, classes)
    places = np.arange(len(kinds))
    parts = sparse.csr_matrix(
        (
            np.concatenate([np.ones(2 * len(kinds)), (true == taken).astype(np.float64)]),
            (np.concatenate([places] * 3), np.concatenate([true, classes + taken, 2 * classes + true])),
        ),
        shape=(len(kinds), 3 * classes),
    )
    return RowResults(
        keys, outcomes.ravel(), parts, _resampled_figures, counting_rows={"accuracy": labels == predicted}
    )


def _resampled_figures(sums: npt.NDArray[np.float64]) -> Mapping[str, npt.NDArray[np.float64]]:
    """Return the figures of `scores` for each row of sums: (n, 3 × classes) → (n,); (n, classes) for `f1`."""
    there, taken, right = np.split(sums, 3, axis=1)
    f1 = _share(2 * right, there + taken)
    occurs = there > 0

    def macro(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return _share((values * occurs).sum(axis=1), occurs.sum(axis=1))

    return {
        "accuracy": _share(right.sum(axis=1), there.sum(axis=1)),
        "macro_f1": macro(f1),
        "macro_precision": macro(_share(right, taken)),
        "macro_recall": macro(_share(right, there)),
        "f1": f1,
    }


def _share(part: npt.NDArray[np.float64], whole: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return found
