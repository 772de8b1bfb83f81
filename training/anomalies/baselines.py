"""Baselines of anomaly detection on the features of the shards, each with a threshold chosen like the model's.

`isolation_forest` (Liu, Ting and Zhou, *ICDM* 2008) and `pca` (the squared error of a row given back from its principal
components) learn from the rows that training takes; `linear`, a logistic regression, from all rows with their labels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common.progress import Progress, log
from schemas.manifest import Column
from training.anomalies.scores import Floats, Scored, Threshold, by_precision, figures
from training.input.whole_split import Rows

TREES = 100
ITERATIONS = 1_000
MOST_CANDIDATES = 16
"""Numbers of principal components that are tried."""
NOISE = 1e-9
"""Share of the variance below which an error is but rounding."""
Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Detector:
    """Scores of a fitted baseline on the rows of a matrix, (rows,), higher for anomalies, and how it was chosen."""

    scores: Callable[[Matrix], Floats]
    details: dict[str, Any]


@dataclass(frozen=True)
class Splits:
    """Matrix and anomalies of each split, and the rows of the training split that training takes."""

    matrices: dict[str, Matrix]
    anomalous: dict[str, npt.NDArray[np.bool_]]
    keys: dict[str, npt.NDArray[np.uint64]]
    taken: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, rows: dict[str, Rows], features: Sequence[Column], normal: npt.NDArray[np.bool_]) -> "Splits":
        """Return the splits; `normal`, (classes,), says which classes are no anomalies."""
        return cls(
            {split: each.matrix(features) for split, each in rows.items()},
            {split: ~normal[each.labels] for split, each in rows.items()},
            {split: each.keys for split, each in rows.items()},
            rows["train"].taken,
        )

    def scored(self, split: str, detector: Detector, name: str) -> Scored:
        """Return the scores of a split. Raises CheckError for scores that are not finite."""
        scores = detector.scores(self.matrices[split])
        return Scored(self.keys[split], scores, self.anomalous[split]).checked(f"the baseline {name}")


def judged(
    splits: Splits, precision: float, strengths: Sequence[float]
) -> Iterator[tuple[str, Scored, Threshold, dict[str, Any]]]:
    """Yield name, scores on the test split, threshold and details of each baseline.

    `precision` is what the thresholds aim at; `strengths` are the candidates of the regression's C.
    """
    kinds: dict[str, Callable[[], Detector | None]] = {
        "isolation_forest": lambda: isolation_forest(splits.matrices["train"][splits.taken]),
        "pca": lambda: pca(splits),
        "linear": lambda: linear(splits, strengths),
    }
    with Progress("baselines", len(kinds), "models") as progress:
        for name, fitted in kinds.items():
            detector = fitted()
            progress.update(1)
            if detector is not None:
                threshold = by_precision(splits.scored("validation", detector, name), precision)
                yield name, splits.scored("test", detector, name), threshold, detector.details


def isolation_forest(train: Matrix) -> Detector:
    """Fit an isolation forest with the defaults of scikit-learn."""
    forest = IsolationForest(n_estimators=TREES, random_state=0).fit(train)
    return Detector(lambda matrix: -forest.score_samples(matrix), {"trees": TREES})


def pca(splits: Splits) -> Detector | None:
    """Fit principal components, as many as detect best on the validation split; None where one gives all back."""
    train = splits.matrices["train"][splits.taken].astype(np.float64)
    whole = PCA(n_components=min(train.shape), random_state=0).fit(train)
    total, told = whole.explained_variance_.sum(), whole.explained_variance_.cumsum()
    # One-hot columns add up to 1, so that fewer components than columns give rows back but for rounding.
    most = int((total - told > NOISE * total).sum())
    if most < 1:
        log("no baseline pca: one principal component gives back all of a row")
        return None

    def with_components(count: int) -> Detector:
        axes = whole.components_[:count]

        def scores(matrix: Matrix) -> Floats:
            centred = matrix.astype(np.float64) - whole.mean_
            error: Floats = np.square(centred - centred @ axes.T @ axes).mean(axis=1)
            return error

        return Detector(scores, {"components": count})

    counts = np.unique(np.linspace(1, most, MOST_CANDIDATES, dtype=np.int64)).tolist()
    return _best(splits, [with_components(count) for count in counts], "pca")


def linear(splits: Splits, strengths: Sequence[float]) -> Detector | None:
    """Fit logistic regressions with labels, and take the one that detects best on the validation split."""
    train, anomalous = splits.matrices["train"].astype(np.float64), splits.anomalous["train"]
    if anomalous.all() or not anomalous.any():
        log("no baseline linear: the training split has rows of one kind alone, normal or anomalous")
        return None

    def with_strength(strength: float) -> Detector:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=ITERATIONS))
        model.fit(train, anomalous)
        return Detector(
            lambda matrix: np.asarray(model.decision_function(matrix.astype(np.float64)), np.float64),
            {"regularisation": strength},
        )

    return _best(splits, [with_strength(strength) for strength in strengths], "linear")


def _best(splits: Splits, candidates: Sequence[Detector], name: str) -> Detector:
    """Return the candidate of the highest average precision on the validation split, the first among equals."""

    def found(detector: Detector) -> float:
        return figures(splits.scored("validation", detector, name), 0.0)["average_precision"]

    return max(candidates, key=found)
