"""Regression: a number or a date of each row, learned on its scale in the shards and judged in its own unit."""

import json
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from common.errors import UsageError
from common.pages.page import ReportSection
from common.wording import did_you_mean
from schemas.config import Configuration
from schemas.features import ScalarFeature
from schemas.manifest import Column, Manifest, read_artifact
from schemas.objectives.regression import Regression as Settings
from training.input.batch_loader import LocalBatch
from training.input.whole_split import read_rows, too_wide
from training.objectives import Judgement, Objective, Outputs, Terms
from training.regression.scores import Floats, Scale, check_finite, distribution, figures, row_results

HEAD = "value"


class Regression(Objective):
    """The squared error of a number of each row, on the scale of the shards."""

    attackable, attacked_figure = True, "mae"

    def __init__(self, config: Configuration, manifest: Manifest, device: torch.device) -> None:
        """Set up the objective. Raises UsageError for a target that is no number, or whose values are made up."""
        super().__init__(config, manifest, device)
        self.target = cast(Settings, config.objective).target
        self.scale = Scale.of(json.loads(read_artifact(manifest, self._statistics(), config.storage)))
        if not self.inputs:
            raise UsageError(
                f"the target {self.target!r} is the only feature: add a [[feature]] to predict it from"
            )
        self.outputs = {HEAD: 1}

    def _statistics(self) -> str:
        """Return the hash of the target's statistics."""
        features = {feature.name: feature for feature in self.config.feature}
        feature = features.get(self.target)
        if not isinstance(feature, ScalarFeature):
            scalars = [name for name, one in features.items() if isinstance(one, ScalarFeature)]
            raise UsageError(
                f"objective.target = {self.target!r} is not the name of a [[feature]] with encode = "
                f'"number" or "date"{did_you_mean(self.target, scalars)}'
            )
        if feature.missing != "drop" or (feature.outliers is not None and feature.outliers.action == "clip"):
            raise UsageError(
                f"the target {self.target!r} has values that were filled in or clipped, which nothing can be judged "
                'by: give its feature missing = "drop" and no outliers with action = "clip", and publish again'
            )
        column = next(column for column in self.manifest.content.columns if column.name == self.target)
        return column.artifacts["statistics"]

    @property
    def inputs(self) -> list[Column]:
        return [column for column in super().inputs if column.name != self.target]

    def terms(self, model: nn.Module, batch: LocalBatch) -> Terms:
        predicted, true = model(batch.features)[HEAD][:, 0], batch.features[self.target][:, 0]
        loss = (predicted - true).square()
        metrics = {} if batch.split == "train" else {"mae": self._absolute(predicted, true)}
        return Terms(loss, torch.ones_like(loss), metrics)

    def _absolute(self, predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        """Return the absolute errors in the unit of the column, (rows,), no larger than their dtype can hold."""
        both = torch.stack([predicted.detach(), true]).double().cpu().numpy()
        absolute = np.abs(np.diff(self.scale.undo(both), axis=0)[0])
        return torch.from_numpy(absolute.clip(max=torch.finfo(predicted.dtype).max)).to(predicted)

    def judge(self) -> "NumberJudge":
        return NumberJudge(self)

    def baselines(self) -> dict[str, Judgement]:
        if too_wide(self.inputs, self.rows):
            return {}
        from training.regression.baselines import linear, mean  # scikit-learn takes seconds

        rows = {split: read_rows(self.manifest, split, self.config.storage) for split in self.manifest.splits}
        train, test = (self._true(rows[split].arrays[self.target]) for split in ("train", "test"))
        strengths = self.config.evaluate.regularisation
        predicted, details = linear(rows, self.inputs, self.target, self.scale, strengths)
        keys = rows["test"].keys
        return {
            "linear": judgement("the baseline linear", keys, test, predicted, details),
            "mean": judgement("the baseline mean", keys, test, mean(train[rows["train"].taken], test)),
        }

    def _true(self, values: Any) -> Floats:
        return self.scale.undo(values[:, 0].astype(np.float64))

    @classmethod
    def sections(cls, manifest: Manifest, evaluation: dict[str, Any] | None) -> list[ReportSection]:
        from training.regression.sections import predictions  # only reports need it

        return [*super().sections(manifest, evaluation), *predictions(evaluation)]


class NumberJudge:
    """Judge that collects the true and the predicted value of each row."""

    def __init__(self, objective: Regression) -> None:
        self.objective = objective
        self.keys = [np.zeros((0, 2), np.uint64)]
        self.values = [np.zeros((0, 2), np.float64)]
        """(rows, 2): true and predicted, on the scale of the shards."""

    def add(self, batch: LocalBatch, outputs: Outputs) -> None:
        self.keys.append(batch.keys)
        both = torch.cat([batch.features[self.objective.target][:, :1], outputs[HEAD]], dim=1)
        self.values.append(both.double().numpy())

    def judgement(self) -> Judgement:
        true, predicted = self.objective.scale.undo(np.concatenate(self.values)).T
        return judgement("the model", np.concatenate(self.keys), true, predicted)


def judgement(
    predictor: str, keys: Any, true: Floats, predicted: Floats, details: dict[str, Any] | None = None
) -> Judgement:
    """Return the figures of predictions in the unit of the column, (rows,) each.

    R² is left out where it is undefined, as the values are all equal. Raises CheckError for predictions without a
    finite error.
    """
    check_finite(predictor, true, predicted)
    found = figures(true, predicted)
    if not np.isfinite(found["r2"]):
        del found["r2"]
    more = {"distribution": distribution(true, predicted), **(details or {})}
    return Judgement(len(true), found, more, row_results(keys, true, predicted))
