"""Baselines of regression: the mean of the training split, and ridge regression on the features of the shards."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from schemas.manifest import Column
from training.input.whole_split import Rows
from training.regression.scores import Floats, Scale


def mean(train: Floats, test: Floats) -> Floats:
    """Return the mean of the training split for each row of the test split."""
    return np.full(len(test), train.mean())


def linear(
    rows: dict[str, Rows], inputs: Sequence[Column], target: str, scale: Scale, strengths: Sequence[float]
) -> tuple[Floats, dict[str, Any]]:
    """Return the predictions for the test split of a ridge regression on standardised features, and how it was chosen.

    It learns the scaled target from the rows that training takes, as the model does. `strengths` are candidates of 1 /
    alpha; the one with the smallest mean absolute error on the validation split is taken, or on the training split
    where that has no rows.
    """
    matrices = {split: each.matrix(inputs).astype(np.float64) for split, each in rows.items()}
    targets = {split: each.arrays[target][:, 0].astype(np.float64) for split, each in rows.items()}
    taken = rows["train"].taken
    train = matrices["train"][taken]
    chosen_on = "validation" if len(targets["validation"]) else "train"
    truth = scale.undo(targets[chosen_on])
    errors, models = [], []
    for strength in strengths:
        model = make_pipeline(StandardScaler(), Ridge(alpha=1 / strength)).fit(train, targets["train"][taken])
        predicted = scale.undo(model.predict(matrices[chosen_on]))
        errors.append(float(np.abs(predicted - truth).mean()))
        models.append(model)
    best = int(np.argmin(errors))
    test = matrices["test"]
    predicted = models[best].predict(test) if len(test) else np.zeros(0)
    return scale.undo(predicted), {"regularisation": strengths[best], "chosen_on": chosen_on}
