"""Accuracy, precision, recall, F1 and the confusion matrix of a classifier's predictions."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class. A ratio with denominator 0 (no row predicted, no row there) counts as 0."""

    label: str
    rows: int
    """Rows of this class."""
    precision: float
    recall: float
    f1: float


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
    confusion: list[list[int]]
    """confusion[i][j]: rows of class i that were classified as class j."""

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
    confusion = np.bincount(labels * size + predicted, minlength=size * size).reshape(size, size)
    right = np.diag(confusion).astype(np.float64)
    there, taken = confusion.sum(axis=1), confusion.sum(axis=0)
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
            for i, name in enumerate(names)
        ],
        confusion=[[int(count) for count in row] for row in confusion],
    )


def _share(part: npt.NDArray[np.float64], whole: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
