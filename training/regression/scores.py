"""Errors of predicted numbers, in the unit of the column."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from common.errors import CheckError
from training.comparison.assessment import RowResults

SHOWN_BINS = 20
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """The scale of a column, by the statistics of its encoder: y = (x - offset) / divisor, or the asinh of that."""

    offset: float
    divisor: float
    asinh: bool

    @classmethod
    def of(cls, statistics: Mapping[str, Any]) -> "Scale":
        """Return the scale that an artifact of the purpose `statistics` states."""
        return cls(statistics["offset"], statistics["divisor"], statistics.get("transform") == "asinh")

    def undo(self, scaled: Floats) -> Floats:
        """Return values in the unit of the column, from those that the shards hold."""
        with np.errstate(over="ignore"):  # of predictions far off, which become infinite
            unscaled: Floats = (np.sinh(scaled) if self.asinh else scaled) * self.divisor + self.offset
        return unscaled


def check_finite(predictor: str, true: Floats, predicted: Floats) -> None:
    """Raise CheckError if the squared errors of predictions, (rows,) each, have no finite sum."""
    furthest = np.sqrt(np.finfo(np.float64).max / max(1, len(true)))
    unknown = int((~(np.abs(predicted - true) < furthest)).sum())  # NaN is not below anything
    if unknown:
        raise CheckError(
            f"{predictor} predicts for {unknown:,} of {len(true):,} rows a value whose error is not finite: train it "
            "again with a smaller optimizer.learning_rate, or scale its features"
        )


def figures(true: Floats, predicted: Floats) -> dict[str, float]:
    """Return mean absolute error, root mean squared error and R² of predictions, (rows,) each."""
    parts = _parts(true, predicted)
    return {name: float(values[0]) for name, values in resampled(parts.sum(axis=0)[None]).items()}


def row_results(keys: npt.NDArray[np.uint64], true: Floats, predicted: Floats) -> RowResults:
    """Return the results of rows, to be compared with those of other models on the same rows."""
    kinds, outcomes = np.unique(_parts(true, predicted), axis=0, return_inverse=True)
    return RowResults(
        keys,
        outcomes.ravel(),
        sparse.csr_matrix(kinds),
        resampled,
        lower_is_better=frozenset({"mae", "rmse"}),
    )


def _parts(true: Floats, predicted: Floats) -> Floats:
    """Return what each row adds to the sums of `resampled`: (rows, 5)."""
    errors = predicted - true
    # Around the mean, so that the variance is no difference of two large numbers.
    around = true - true.mean() if len(true) else true
    return np.stack([np.ones_like(errors), np.abs(errors), errors**2, around, around**2], axis=1)


def resampled(sums: Floats) -> Mapping[str, Floats]:
    """Return the figures for each row of sums, (n, 5) → (n,) each.

    The sums are rows, absolute errors, squared errors, values and squared values. R² is not finite where all values
    are equal.
    """
    rows, absolute, squared, values, squares = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "mae": absolute / rows,
            "rmse": np.sqrt(squared / rows),
            "r2": 1 - squared / (squares - values**2 / rows),
        }


def distribution(true: Floats, predicted: Floats) -> dict[str, Any]:
    """Return true values by bin and the mean and deviation of the predictions there, for the run report."""
    edges = np.unique(np.quantile(true, np.linspace(0, 1, SHOWN_BINS + 1)))
    place = np.clip(np.searchsorted(edges, true, side="right") - 1, 0, max(0, len(edges) - 2))
    bins = []
    for at in np.unique(place).tolist():
        mine = place == at
        low, middle, high = np.quantile(predicted[mine], [0.1, 0.5, 0.9]).tolist()
        bins.append(
            {
                "rows": int(mine.sum()),
                "true": float(np.median(true[mine])),
                "low": low,
                "middle": middle,
                "high": high,
            }
        )
    return {"bins": bins}
