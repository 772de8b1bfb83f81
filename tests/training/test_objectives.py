"""The interface of objectives: results of classification, requirements on a data set, and early stopping."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from common.errors import UsageError
from schemas.config import load
from tests.training.published import CLASSES, publish
from tests.training.published_numbers import DATA, publish_numbers
from training import models, objectives
from training.checkpoints.record import Criterion
from training.engine.validation import facts_of, stale
from training.input.batch_loader import BatchLoader, LocalBatch, columns_of
from training.objectives.classification import Classification, portions
from training.parallel.world import World
from training.train import main

CPU = torch.device("cpu")


def test_class_weights_count_in_training_alone(tmp_path: Path) -> None:
    published = publish(tmp_path, balance='policy = "weights"', chances=(0.7, 0.2, 0.1))
    config, manifest = load(published.config), published.load()
    objective = objectives.build(config, manifest, CPU)
    assert objective.outputs == {"logits": len(CLASSES)}
    assert objective.weighted
    features = [column for column in columns_of(manifest) if column.role == "feature"]
    model = models.build(config.model, features, objective.outputs).eval()

    def first(split: str) -> LocalBatch:
        with BatchLoader(manifest, split, config.train, World(0, 1)) as loader:
            return next(loader)

    batch = first("train")
    assert batch.labels is not None
    expected = [manifest.splits["train"].balance.weights[CLASSES[label]] for label in batch.labels]
    terms = objective.terms(model, batch)
    torch.testing.assert_close(terms.weight, torch.tensor(expected))
    assert terms.loss.shape == terms.metrics["accuracy"].shape == (16,)
    assert objective.terms(model, first("validation")).weight.tolist() == [1.0] * 16


def test_balanced_accuracy_is_the_mean_of_the_recalls() -> None:
    labels, predicted = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 0])
    shares = portions({"a": 4, "b": 2, "c": 0}, ["a", "b", "c"], CPU)
    mean = float(((labels == predicted).float() * shares[labels]).mean())
    assert mean == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_a_data_set_without_what_the_objective_needs_is_refused(tmp_path: Path) -> None:
    published = publish_numbers(tmp_path)
    published.config.write_text(DATA.format(root=tmp_path), encoding="utf-8")  # classification by default
    with pytest.raises(
        UsageError, match=r"objective.kind = 'classification' needs a label column: .*columns\.label"
    ):
        main(["--config", str(published.config), "--run", "refused"])
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("kind", ["reconstruction", "regression"])
def test_class_weights_that_the_objective_ignores_are_refused(tmp_path: Path, kind: str) -> None:
    published = publish(tmp_path, balance='policy = "weights"', chances=(0.7, 0.2, 0.1))
    chosen = f'objective={{kind="{kind}"' + (', target="text"}' if kind == "regression" else "}")
    flags = ["--config", str(published.config), "--run", "refused", "--set", chosen]
    with pytest.raises(
        UsageError, match=rf"balance.policy = 'weights', and objective.kind = '{kind}' uses no class"
    ):
        main([*flags, "--check"])
    assert not (published.root / "runs").exists()


def test_stopping_early_needs_a_validation_split(tmp_path: Path) -> None:
    published = publish(tmp_path, validation=())
    with pytest.raises(UsageError, match=r"train\.patience stops by results on the validation split"):
        main(["--config", str(published.config), "--run", "refused", "--set", "train.patience=1"])


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([], 0),
        ([0.5], 0),
        ([0.5, 0.4, 0.3], 0),
        ([0.5, 0.5], 1),
        ([0.5, 0.3, 0.4, 0.3], 2),
        ([float("nan"), float("inf")], 2),
        ([float("nan"), 0.5, float("nan")], 1),
    ],
)
@pytest.mark.parametrize("higher", [False, True])
def test_validations_since_the_best_are_counted(losses: list[float], expected: int, higher: bool) -> None:
    objective = cast(objectives.Objective, SimpleNamespace(criterion="result", higher_is_better=higher))
    found = [{"step": float(step), "result": -loss if higher else loss} for step, loss in enumerate(losses)]
    assert stale(objective, found) == expected


def test_what_decides_stands_in_the_record(tmp_path: Path) -> None:
    published = publish(tmp_path)
    objective = objectives.build(load(published.config), published.load(), CPU)
    decides = Criterion(name="balanced_accuracy", value=0.7, higher_is_better=True)
    assert facts_of(objective, {"loss": 0.3, "balanced_accuracy": 0.7}) == {
        "validation_loss": 0.3,
        "criterion": decides,
    }
    unknown = decides.model_copy(update={"value": None})
    assert facts_of(objective, {"loss": 0.3, "balanced_accuracy": math.nan}) == {
        "validation_loss": 0.3,
        "criterion": unknown,
    }
    for loss in (math.nan, math.inf):
        assert facts_of(objective, {"loss": loss, "balanced_accuracy": 0.7})["validation_loss"] is None
    assert facts_of(objective, None) == {"validation_loss": None, "criterion": None}


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            "precision",
            r"'classification' compares checkpoints by 'balanced_accuracy', but its terms have no such metric",
        ),
        ("weight", r"'classification' has a metric 'weight': rename it"),
        (
            "column",
            r"terms of the objective 'classification' must all be tensors of the same shape \(units,\), not",
        ),
    ],
)
def test_metrics_are_checked_with_the_first_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str, message: str
) -> None:
    published = publish(tmp_path)
    given = Classification.terms

    def renamed(self: Classification, model: torch.nn.Module, batch: LocalBatch) -> objectives.Terms:
        terms = given(self, model, batch)
        if metric == "column":
            return terms._replace(weight=terms.weight[:, None])
        return terms._replace(metrics={metric: terms.metrics["accuracy"]})

    monkeypatch.setattr(Classification, "terms", renamed)
    with pytest.raises(UsageError, match=message):
        main(["--config", str(published.config), "--run", "first"])
    assert not (published.root / "runs" / "first").exists()  # nothing is removed, nor written
