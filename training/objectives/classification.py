"""Classification of rows: cross-entropy, weighted by class in training, and a linear baseline beside the model."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from common.pages.page import ReportSection
from common.progress import log
from schemas.config import Configuration
from schemas.manifest import Manifest
from training.classification.mistakes import Mistakes
from training.classification.scores import Scores, row_results, scores
from training.comparison.assessment import RowResults
from training.input.batch_loader import LocalBatch
from training.input.whole_split import too_wide
from training.objectives import Judgement, Objective, Outputs, Terms, figures_table

LOGITS = "logits"
MOST_WEIGHTS = 1 << 28
"""Weights of the linear baseline, 2 GiB; with more, memory and time are no longer a baseline's."""
SHOWN_CLASSES = 40
"""Classes in the text for a terminal."""


class Classification(Objective):
    """One class out of several for each row."""

    needs = frozenset({"label"})
    uses_class_weights = True
    attackable, attacked_figure = True, "accuracy"
    # The loss rises as soon as a model is sure of its mistakes, and accuracy hardly changes while it still learns the
    # rare classes.
    criterion, higher_is_better = "balanced_accuracy", True

    def __init__(self, config: Configuration, manifest: Manifest, device: torch.device) -> None:
        super().__init__(config, manifest, device)
        self.classes = manifest.classes(config.storage)
        self.outputs = {LOGITS: len(self.classes)}
        self.class_weights = class_weights(manifest, self.classes, device)
        self.weighted = self.class_weights is not None
        self.portions = {
            split: portions(content.label_counts, self.classes, device)
            for split, content in manifest.splits.items()
        }

    def terms(self, model: nn.Module, batch: LocalBatch) -> Terms:
        labels = batch.labels
        assert labels is not None  # `needs`
        logits: torch.Tensor = model(batch.features)[LOGITS]
        loss = functional.cross_entropy(logits, labels, reduction="none")
        weight = torch.ones_like(loss)
        # Weights compensate for the classes of the training split; the splits that judge a model are never balanced.
        if self.class_weights is not None and batch.split == "train":
            weight = self.class_weights[labels]
        correct = (logits.detach().argmax(dim=1) == labels).float()
        balanced = correct * self.portions[batch.split][labels]
        return Terms(loss, weight, {"accuracy": correct, "balanced_accuracy": balanced})

    def judge(self) -> "ClassJudge":
        return ClassJudge(self.classes, Mistakes(self.inputs))

    def baselines(self) -> dict[str, Judgement]:
        train = self.manifest.splits["train"]
        # A class that train.where leaves out is repeated 0 times.
        there = [n for n, rows in train.label_counts.items() if rows and train.balance.repeats.get(n, 1)]
        if len(there) < 2:
            log(
                f"no baseline: the training split has only one class ({', '.join(there)}), so there is nothing to "
                "tell apart, and whatever says that class is right on all of its rows"
            )
            return {}
        weights = len(there) * self.config.evaluate.hashed_features
        if weights > MOST_WEIGHTS:
            log(
                f"no baseline: {len(there):,} classes of {self.config.evaluate.hashed_features:,} hashed features are "
                f"{weights:,} weights, and it has at most {MOST_WEIGHTS:,}: lower evaluate.hashed_features"
            )
            return {}
        # From texts it learns by their hashed words.
        if not self.config.text_columns() and too_wide(self.inputs, self.rows):
            return {}
        from training.classification.baseline import evaluate_baseline  # scikit-learn takes seconds

        found = evaluate_baseline(self.manifest, self.config, self.classes)
        details = {
            "regularisation": found.regularisation,
            "chosen_on": found.chosen_on,
            "candidate_accuracy": found.candidate_accuracy,
            "converged": found.converged,
            "learned_from": found.learned_from,
        }
        return {"linear": judgement(found.test, found.results, details)}

    def summary(self, found: Judgement, baselines: Mapping[str, Judgement]) -> dict[str, Any]:
        linear = baselines.get("linear")
        section: dict[str, Any] = {
            "accuracy": found.figures["accuracy"],
            "macro_f1": found.figures["macro_f1"],
            "baseline_accuracy": None if linear is None else linear.figures["accuracy"],
            "baseline_macro_f1": None if linear is None else linear.figures["macro_f1"],
            "classes": {
                one["label"]: {"rows": one["rows"], **_three(one)} for one in found.details["classes"]
            },
        }
        if linear is not None:
            section["baseline_classes"] = {one["label"]: _three(one) for one in linear.details["classes"]}
        return section

    def summary_without_rows(self) -> dict[str, Any]:
        return dict.fromkeys(("accuracy", "macro_f1", "baseline_accuracy", "baseline_macro_f1"))

    def table(self, found: Judgement, baselines: Mapping[str, Judgement]) -> str:
        columns = {"model": found, **baselines}
        # Of a class without rows a 0 would be no result.
        there = {one["label"]: one["rows"] for one in found.details["classes"] if one["rows"]}
        largest = sorted(there, key=lambda name: -there[name])[:SHOWN_CLASSES]
        by_class = {
            name: {one["label"]: one["f1"] for one in judged.details["classes"] if one["label"] in largest}
            for name, judged in columns.items()
        }
        lines = [super().table(found, baselines), figures_table(by_class, "F1 by class")]
        for why, rest in (
            ("have no row in this split", len(found.details["classes"]) - len(there)),
            ("have fewer rows; evaluation.json has their figures", len(there) - len(largest)),
        ):
            if rest:
                lines.append(f"{rest:,} more classes {why}")
        for judged in baselines.values():
            lines.append(
                f"baseline: C = {judged.details['regularisation']:g}, chosen on the "
                f"{judged.details['chosen_on']} split"
            )
            if not judged.details["converged"]:
                lines.append(
                    "the baseline's regression did not converge: its figures are a lower bound of what it can do"
                )
        return "\n".join(lines)

    @classmethod
    def sections(cls, manifest: Manifest, evaluation: dict[str, Any] | None) -> list[ReportSection]:
        from training.classification import sections  # only reports need it

        return sections.sections(manifest, evaluation)


class ClassJudge:
    """Judge that collects the true and the predicted class of each row."""

    def __init__(self, classes: list[str], mistakes: Mistakes) -> None:
        self.classes, self.mistakes = classes, mistakes
        self.labels, self.predicted = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        self.keys = [np.zeros((0, 2), np.uint64)]

    def add(self, batch: LocalBatch, outputs: Outputs) -> None:
        assert batch.labels is not None
        self.keys.append(batch.keys)
        self.labels.append(batch.labels.numpy())
        self.predicted.append(outputs[LOGITS].argmax(dim=1).numpy())
        self.mistakes.add(batch, outputs[LOGITS])

    def judgement(self) -> Judgement:
        labels, predicted = np.concatenate(self.labels), np.concatenate(self.predicted)
        results = row_results(np.concatenate(self.keys), labels, predicted, len(self.classes))
        return judgement(scores(labels, predicted, self.classes), results, self.mistakes.told(self.classes))


def class_weights(manifest: Manifest, classes: list[str], device: torch.device) -> torch.Tensor | None:
    """Return the loss weight of each class in the training split: (classes,) float32; None: all equal."""
    weights = manifest.splits["train"].balance.weights
    if not weights:
        return None
    return torch.tensor([weights[name] for name in classes], dtype=torch.float32, device=device)


def portions(counts: Mapping[str, int], classes: list[str], device: torch.device) -> torch.Tensor:
    """Return what a correct row of each class adds to balanced accuracy, as a mean over a split: (classes,) float32.

    Balanced accuracy is the mean of the recalls of the classes that occur.
    """
    rows, occur = sum(counts.values()), sum(count > 0 for count in counts.values())
    found = [rows / (occur * counts[name]) if counts.get(name) else 0.0 for name in classes]
    return torch.tensor(found, dtype=torch.float32, device=device)


def judgement(found: Scores, results: RowResults, more: Mapping[str, Any] | None = None) -> Judgement:
    """Convert scores and the results of rows to a judgement, with further details."""
    document = found.as_json()
    figures = {name: document[name] for name in ("accuracy", "macro_f1", "macro_precision", "macro_recall")}
    details = {"classes": document["classes"], "confusion": document["confusion"], **(more or {})}
    return Judgement(found.rows, figures, details, results)


def _three(one: dict[str, Any]) -> dict[str, float | None]:
    return {name: one[name] for name in ("precision", "recall", "f1")}
