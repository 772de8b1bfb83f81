"""Reconstruction: a row's numbers from what a model keeps of them, whose error is a score of anomaly.

The score of a row is the mean squared error over its numbers. With `objective.normal`, evaluation chooses a threshold
by the labels of the validation split, and compares with an isolation forest, principal components and a logistic
regression on the same rows; without, it flags a share of the rows and claims no precision.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from common.errors import UsageError
from common.pages.page import ReportSection
from common.progress import log
from common.wording import did_you_mean
from schemas import class_mix
from schemas.config import Configuration
from schemas.manifest import Manifest
from schemas.objectives.reconstruction import Reconstruction as Settings
from training.anomalies.scores import (
    Scored,
    Threshold,
    by_contamination,
    by_precision,
    distribution,
    figures,
    row_results,
)
from training.input.batch_loader import LocalBatch
from training.input.class_balance import repeats_of
from training.input.whole_split import read_rows, too_wide
from training.models.mlp import is_numeric
from training.objectives import Judgement, Objective, Outputs, Terms

HEAD = "reconstruction"


class Reconstruction(Objective):
    """The mean squared error of the numbers of a row."""

    chooses_on_validation = True
    attackable = True

    def __init__(self, config: Configuration, manifest: Manifest, device: torch.device) -> None:
        """Set up the objective.

        Raises UsageError where there is no number to give back, no validation split to choose a threshold on, and for
        a class that is not in the data.
        """
        super().__init__(config, manifest, device)
        self.settings = cast(Settings, config.objective)
        numbers = [column for column in self.inputs if is_numeric(column)]
        if not numbers:
            raise UsageError(
                "objective.kind = 'reconstruction' gives back numbers, and the data set has none: add a [[feature]] "
                'with encode = "number", "date" or "boolean", and publish it again'
            )
        if not manifest.splits["validation"].rows:
            raise UsageError(
                "objective.kind = 'reconstruction' chooses its threshold on the validation split, which has no rows: "
                "publish one, with split.validation above 0"
            )
        self.names = [column.name for column in numbers]
        self.outputs = {HEAD: sum(column.shape[0] for column in numbers)}
        self.normal = self._normal()
        repeats = repeats_of(manifest, "train", config.storage)
        self.trained_on = None if repeats is None else torch.tensor(repeats > 0, device=device)
        """(classes,): the classes that training takes, over which validation takes its mean as well."""

    def _normal(self) -> npt.NDArray[np.bool_] | None:
        """Return which classes are no anomalies, (classes,); None where labels do not tell."""
        named = self.settings.normal_classes()
        if not named:
            return None
        classes = self.manifest.classes(self.config.storage)
        for name in named:
            if name not in classes:
                raise UsageError(
                    f"objective.normal names the class {name!r}, which no published record has"
                    f"{did_you_mean(name, classes)}: correct it; there are {', '.join(map(repr, classes))}"
                )
        return np.array([name in named for name in classes])

    def errors(self, features: Mapping[str, torch.Tensor], outputs: Outputs) -> torch.Tensor:
        """Return the mean squared error of each row, (rows,) float32."""
        wanted = torch.cat([features[name] for name in self.names], dim=1)
        return (outputs[HEAD] - wanted).square().mean(dim=1)

    def terms(self, model: nn.Module, batch: LocalBatch) -> Terms:
        loss = self.errors(batch.features, model(batch.features))
        weight = torch.ones_like(loss)
        if self.trained_on is not None and batch.split != "train":
            assert batch.labels is not None  # `train.where` needs them
            weight = self.trained_on[batch.labels].float()
        return Terms(loss, weight)

    def judge(self) -> "AnomalyJudge":
        return AnomalyJudge(self)

    def threshold(self, validation: Scored) -> Threshold:
        """Choose the threshold; the log says where the precision aimed at cannot be reached."""
        if validation.anomalous is None:
            return by_contamination(validation, self.settings.contamination)
        if not validation.anomalous.any():
            log(
                "note: the validation split has no anomaly to choose a threshold by, so a share of its rows is taken "
                f"(objective.contamination = {self.settings.contamination:g})"
            )
            return by_contamination(validation, self.settings.contamination)
        found = by_precision(validation, self.settings.precision)
        if found.chosen_by == "f1":
            log(
                f"note: no threshold reaches a precision of {found.wanted:g} on the validation split; the one with the "
                f"highest F1 is taken, whose precision is {found.precision:.3f}"
            )
        return found

    def judged(self, validation: Scored, judged: Scored) -> Judgement:
        """Return the judgement by a threshold chosen on the validation split."""
        threshold = self.threshold(validation)
        details = {
            "threshold": asdict(threshold),
            "distribution": distribution(judged, threshold.value),
        }
        return judgement(judged, threshold.value, details)

    def baselines(self) -> dict[str, Judgement]:
        if self.normal is None:
            log("no baseline: without objective.normal nothing tells which rows are anomalies")
            return {}
        if too_wide(self.inputs, self.rows):
            return {}
        from training.anomalies.baselines import Splits, judged  # scikit-learn takes seconds

        rows = {split: read_rows(self.manifest, split, self.config.storage) for split in self.manifest.splits}
        splits = Splits.of(rows, self.inputs, self.normal)
        if not splits.anomalous["validation"].any():
            log("no baseline: the validation split has no anomaly to choose thresholds by")
            return {}
        settings = self.config.evaluate
        return {
            name: judgement(test, threshold.value, {"threshold": asdict(threshold), **details})
            for name, test, threshold, details in judged(
                splits, self.settings.precision, settings.regularisation
            )
        }

    def decision(self, found: Judgement) -> dict[str, Any]:
        return {"threshold": found.details["threshold"]}

    @classmethod
    def sections(cls, manifest: Manifest, evaluation: dict[str, Any] | None) -> list[ReportSection]:
        from training.anomalies.sections import scores  # only reports need it

        train = manifest.splits["train"]
        taken = [class_mix.section(train)] if train.balance.policy == "where" else []
        return [*super().sections(manifest, evaluation), *scores(evaluation), *taken]


class AnomalyJudge:
    """Judge that collects the score of each row, by split."""

    def __init__(self, objective: Reconstruction) -> None:
        self.objective = objective
        self.parts: dict[str, list[Scored]] = {}

    def add(self, batch: LocalBatch, outputs: Outputs) -> None:
        normal = self.objective.normal
        scores = self.objective.errors(batch.features, outputs).double().numpy()
        anomalous = None
        if normal is not None:
            assert batch.labels is not None  # `manifest.classes` needs them
            anomalous = ~normal[batch.labels.numpy()]
        self.parts.setdefault(batch.split, []).append(Scored(batch.keys, scores, anomalous))

    def scored(self, split: str) -> Scored:
        """Return the scores of a split. Raises CheckError for scores that are not finite."""
        parts = self.parts[split]
        anomalous = None if self.objective.normal is None else np.concatenate([p.anomalous for p in parts])
        keys, scores = np.concatenate([p.keys for p in parts]), np.concatenate([p.scores for p in parts])
        return Scored(keys, scores, anomalous).checked("the model")

    def judgement(self) -> Judgement:
        *_, last = self.parts
        return self.objective.judged(self.scored("validation"), self.scored(last))


def judgement(scored: Scored, threshold: float, details: dict[str, Any]) -> Judgement:
    """Return the figures of a detector: those of labelled rows, or what can be said without an anomaly to find."""
    rows = len(scored.scores)
    if scored.anomalous is None or not scored.anomalous.any():
        found = {
            "flagged_share": float((scored.scores >= threshold).mean()),
            "mean_score": float(scored.scores.mean()),
            "threshold": threshold,
        }
        return Judgement(rows, found, details)
    found = figures(scored, threshold)
    if scored.anomalous.all():
        # An area under no curve is no number.
        found = {name: value for name, value in found.items() if np.isfinite(value)}
        return Judgement(rows, found, details)
    return dataclasses.replace(Judgement(rows, found, details), results=row_results(scored, threshold))
