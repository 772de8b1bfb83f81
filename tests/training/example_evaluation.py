"""The evaluation of an imaginary classifier beside a baseline, with any number of classes."""

from dataclasses import replace
from typing import Any

import numpy as np

from provenance.keys import record_keys
from training.classification.scores import row_results, scores
from training.comparison.assessment import assess
from training.objectives import Judgement
from training.objectives.classification import judgement


def example_judgements(
    classes: int, rows: int, right: tuple[float, float] = (0.9, 0.9), groups: int | None = None
) -> tuple[Judgement, Judgement]:
    """Return the judgements of a model and a baseline that have these shares of rows right, more or less.

    Mistakes mostly go to the next class; the first classes have most rows.
    """
    random = np.random.default_rng(0)
    names = [f"sci.topic_{place:03}.of_some_length" if place % 3 else f"t{place}" for place in range(classes)]
    chances = 1 / np.arange(1, classes + 1) ** 0.7
    labels = random.choice(classes, rows, p=chances / chances.sum())
    keys = record_keys(f"row {row}" for row in range(rows))
    judged = []
    for share, details in zip(right, ({}, {"regularisation": 10.0, "converged": True}), strict=True):
        nearby = np.where(
            random.random(rows) < 0.6, (labels + 1) % classes, random.integers(0, classes, rows)
        )
        taken = np.where(random.random(rows) < share, labels, nearby)
        results = row_results(keys, labels, taken, classes)
        tried = {"candidate_accuracy": {"1": share - 0.01, "10": share}, "chosen_on": "validation"}
        more = {**details, **tried} if details else {}
        judged.append(judgement(scores(labels, taken, names), results, more))
    units = None if groups is None else np.arange(rows) % groups
    found = assess([one.results for one in judged if one.results is not None], units)
    model, baseline = (
        replace(one, intervals=intervals) for one, intervals in zip(judged, found.intervals, strict=True)
    )
    return model, replace(baseline, comparison=found.comparisons[0])


def example_evaluation(classes: int, rows: int, **how: Any) -> dict[str, Any]:
    """Return such an evaluation as evaluation.json has it."""
    model, baseline = example_judgements(classes, rows, **how)
    return {
        "manifest_root": "a" * 64,
        "objective": "classification",
        "checkpoint": "step-00000003.pt",
        "checkpoint_sha256": "b" * 64,
        "split": "test",
        "model": model.as_json(),
        "baselines": {"linear": baseline.as_json()},
    }
