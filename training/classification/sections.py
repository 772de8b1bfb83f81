"""Sections of the run report for a classification."""

from typing import Any

from common.pages.page import Block, Cell, ReportSection, Table, Text, Value, figure, number
from schemas import class_mix
from schemas.manifest import Manifest
from training.reporting.sections import NOT_EVALUATED, Evaluation, difference, not_evaluated


def sections(manifest: Manifest, evaluation: Evaluation | None) -> list[ReportSection]:
    """Return the figures against the baseline, the confusion matrices, and the classes of the training split."""
    balance = class_mix.section(manifest.splits["train"])
    against = against_baseline(evaluation)
    if evaluation is None:
        against = ReportSection(against.title, [not_evaluated(manifest)])
    return [against, *confusion(evaluation), balance]


def scores(judged: dict[str, Any] | None) -> dict[str, Any] | None:
    """Merge figures and details of a judgement into one dict."""
    return None if judged is None else {**judged["figures"], **judged["details"]}


def against_baseline(evaluation: Evaluation | None) -> ReportSection:
    """Show the model and the linear baseline side by side, whichever is better."""
    title = "Test split, model and baseline"
    if evaluation is None:
        return ReportSection(title, [Text(NOT_EVALUATED, "quiet")])
    model, baseline = scores(evaluation["model"]), scores(evaluation["baselines"].get("linear"))
    assert model is not None
    others = baseline["classes"] if baseline is not None else [None] * len(model["classes"])
    figures = {
        "Accuracy": "accuracy",
        "Macro F1": "macro_f1",
        "Macro precision": "macro_precision",
        "Macro recall": "macro_recall",
    }
    whole = [
        _compared(name, model[key], baseline[key] if baseline else None) for name, key in figures.items()
    ]
    by_class: list[list[Value]] = [
        [one["label"], number(one["rows"])]
        + [figure(one[key]) for key in ("precision", "recall")]
        + _compared("", one["f1"], other["f1"] if other is not None else None)[1:]
        for one, other in zip(model["classes"], others, strict=True)
    ]
    blocks: list[Block] = [_verdict(model, baseline)]
    blocks.append(Table(["", "Model", "Baseline", "Difference"], whole))
    blocks.append(
        Table(["Class", "Rows", "Precision", "Recall", "F1", "F1 of the baseline", "Difference"], by_class)
    )
    blocks.append(
        Text(
            "Macro figures are means over the classes that occur in the test split, each with the same weight.",
            "quiet",
        )
    )
    if baseline is not None:
        blocks.append(Text(_described(baseline), "quiet"))
    return ReportSection(title, blocks)


def _compared(name: str, model: float, baseline: float | None) -> list[Value]:
    return [name, figure(model), figure(baseline), difference(model, baseline)]


def _verdict(model: dict[str, Any], baseline: dict[str, Any] | None) -> Text:
    if baseline is None:
        why = "evaluate.baseline is false, or the training split has only one class"
        return Text(f"No baseline was trained: {why}.", "quiet")
    ahead = {
        name: model[key] > baseline[key] for name, key in (("accuracy", "accuracy"), ("macro F1", "macro_f1"))
    }
    if all(ahead.values()):
        return Text("The model is ahead of the linear baseline in accuracy and in macro F1.", "good")
    if not any(ahead.values()):
        return Text(
            "The model is not ahead of the linear baseline, neither in accuracy nor in macro F1.", "bad"
        )
    better, worse = sorted(ahead, key=lambda name: not ahead[name])
    return Text(f"The model is ahead of the linear baseline in {better}, but not in {worse}.")


def _described(baseline: dict[str, Any]) -> str:
    tried = ", ".join(f"{c}: {accuracy:.3f}" for c, accuracy in baseline["validation_accuracy"].items())
    described = (
        "The baseline: hashed word 1- and 2-grams of the full cleaned texts, logistic regression, trained on the same "
        f"training split. Accuracy on the validation split by C: {tried}; C = {baseline['regularisation']:g} was taken."
    )
    return described if baseline["converged"] else described + " It did not converge."


def confusion(evaluation: Evaluation | None) -> list[ReportSection]:
    """Return the confusion matrices: rows are true classes, columns predicted classes."""
    if evaluation is None:
        return []
    blocks: list[Block] = []
    judged = [
        ("model", evaluation["model"]),
        *(("baseline", one) for one in evaluation["baselines"].values()),
    ]
    for name, one in judged:
        labels = [each["label"] for each in one["details"]["classes"]]
        rows: list[list[Value]] = []
        for label, counts in zip(labels, one["details"]["confusion"], strict=True):
            total = max(1, sum(counts))
            rows.append([label, *(Cell(f"{count:,}", shade=count / total) for count in counts)])
        caption = (
            f"The {name}: rows are the true class, columns the predicted one; shaded by the share of the row."
        )
        blocks.append(Table(["", *labels], rows, caption))
    return [ReportSection("Confusion matrix", blocks)]
