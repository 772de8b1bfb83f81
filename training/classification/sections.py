"""Sections of the run report for a classification."""

from typing import Any

from common.pages import charts
from common.pages.page import (
    Beside,
    Block,
    Cell,
    Chart,
    Folded,
    ReportSection,
    Table,
    Text,
    Value,
    counted,
    figure,
    number,
    share,
)
from schemas import class_mix
from schemas.manifest import Manifest
from training.comparison.assessment import Comparison
from training.reporting import comparisons
from training.reporting.sections import NOT_EVALUATED, Evaluation, not_evaluated

FIGURES = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "macro_precision": "Macro precision",
    "macro_recall": "Macro recall",
}
TABLE_CLASSES = 12
"""Classes up to which the confusion matrix is a table of numbers; it is a heat map above."""
MAP_CLASSES = 200
"""Classes of a heat map; where there are more, the ones with most rows, and all others as one."""
LISTED_CLASSES = 25
"""Classes up to which all of them are listed at once."""
CONFUSIONS = 10
OTHERS = "(all others)"


def sections(manifest: Manifest, evaluation: Evaluation | None) -> list[ReportSection]:
    """Return the figures against the baseline, the confusion matrices, and the classes of the training split."""
    balance = class_mix.section(manifest.splits["train"])
    against = against_baseline(evaluation)
    if evaluation is None:
        against = ReportSection(against.title, [not_evaluated(manifest)])
    return [against, *confusion(evaluation), balance]


def against_baseline(evaluation: Evaluation | None) -> ReportSection:
    """Show the model and the linear baseline side by side, whichever is better, and what is chance."""
    title = "Test split, model and baseline"
    if evaluation is None:
        return ReportSection(title, [Text(NOT_EVALUATED, "quiet")])
    model, baseline = evaluation["model"], evaluation["baselines"].get("linear")
    if baseline is None:
        why = "`evaluate.baseline` is false, or the training split has only one class"
        first = [Text(f"No baseline was trained: {why}.", "quiet")]
    else:
        first = comparisons.verdict(baseline, "the linear baseline", ("accuracy", "macro_f1"))
    baselines = {} if baseline is None else {"Baseline": baseline}
    blocks: list[Block] = [*first, comparisons.table(model, baselines, FIGURES)]
    blocks.append(
        Text(
            "Macro figures are means over the classes that occur in the test split, each with the same weight.",
            "quiet",
        )
    )
    blocks += by_class(model, baseline)
    if baseline is not None:
        blocks.append(Text(_described(baseline["details"]), "quiet"))
    return ReportSection(title, blocks)


def by_class(model: dict[str, Any], baseline: dict[str, Any] | None) -> list[Block]:
    """Return the table of the figures of each class; of many classes, the largest, and all of them folded."""
    classes = model["details"]["classes"]
    compared = None if baseline is None else Comparison.read(baseline.get("comparison"))
    intervals = [] if compared is None else compared.by_value.get("f1", [])
    others = [None] * len(classes) if baseline is None else baseline["details"]["classes"]
    rows: list[list[Value]] = []
    for place, (one, other) in enumerate(zip(classes, others, strict=True)):
        row: list[Value] = [one["label"], number(one["rows"])]
        row += [figure(one[key]) for key in ("precision", "recall", "f1")]
        if other is not None:
            ends = tuple(intervals[place]) if intervals else None
            row += [figure(other["f1"]), comparisons.difference(one["f1"], other["f1"], ends)]
        rows.append(row)
    header = ["Class", "Rows", "Precision", "Recall", "F1"]
    header += [] if baseline is None else ["F1 of the baseline", "Difference"]
    note = ""
    if intervals and len(classes) > 1:
        note = "Below each difference is its own 95% interval: by chance alone, one class in twenty lies beside zero."
    if len(classes) <= LISTED_CLASSES:
        return [Table(header, rows, note)]
    order = sorted(range(len(classes)), key=lambda place: (-classes[place]["rows"], place))
    largest = [rows[place] for place in order[:LISTED_CLASSES]]
    caption = f"The {LISTED_CLASSES} of {len(classes):,} classes with most rows. {note}"
    return [Table(header, largest, caption), Folded(f"All {len(classes):,} classes", [Table(header, rows)])]


def _described(baseline: dict[str, Any]) -> str:
    tried = ", ".join(f"{c}: {accuracy:.3f}" for c, accuracy in baseline["validation_accuracy"].items())
    described = (
        "The baseline: hashed word 1- and 2-grams of the full cleaned texts, logistic regression, trained on the same "
        f"training split. Accuracy on the validation split by C: {tried}; C = {baseline['regularisation']:g} was taken."
    )
    return described if baseline["converged"] else described + " It did not converge."


def confusion(evaluation: Evaluation | None) -> list[ReportSection]:
    """Return the confusion matrix of the model, and folded those of the baselines.

    Rows are true classes, columns predicted classes.
    """
    if evaluation is None or not evaluation["model"]["rows"]:
        return []
    blocks = _matrix("model", evaluation["model"]["details"])
    for name, one in evaluation["baselines"].items():
        blocks.append(Folded(f"The same for the {name} baseline", _matrix("baseline", one["details"])))
    return [ReportSection("Confusion matrix", blocks)]


def _matrix(name: str, details: dict[str, Any]) -> list[Block]:
    labels, counts = [each["label"] for each in details["classes"]], details["confusion"]
    if len(labels) <= TABLE_CLASSES:
        rows: list[list[Value]] = []
        for label, row in zip(labels, counts, strict=True):
            total = max(1, sum(row))
            rows.append([label, *(Cell(f"{count:,}", shade=count / total) for count in row)])
        caption = (
            f"The {name}: rows are the true class, columns the predicted one; shaded by the share of the row."
        )
        matrix = Table(["", *labels], rows, caption)
        return [matrix, *([_commonest(labels, counts)] if len(labels) > 4 else [])]
    shown, merged = _largest(labels, counts)
    svg = charts.heat_map(f"Confusion matrix of the {name}", shown, merged)
    caption = (
        f"The {name}: rows are the true class, columns the predicted one. Blue is right, orange wrong; the stronger, "
        "the larger the share of the row (by its square root, so that a hundredth still shows)."
    )
    if len(shown) < len(labels):
        caption += (
            f" The {MAP_CLASSES} classes with most rows of {len(labels):,}; the others are put together."
        )
    return [Beside([Chart(svg, caption, wide=True), _commonest(labels, counts)])]


def _largest(labels: list[str], counts: list[list[int]]) -> tuple[list[str], list[list[int]]]:
    """Return the names and the matrix of at most `MAP_CLASSES` classes, and the others put together as one more."""
    if len(labels) <= MAP_CLASSES:
        return labels, counts
    order = sorted(range(len(labels)), key=lambda place: (-sum(counts[place]), place))
    kept, rest = sorted(order[:MAP_CLASSES]), order[MAP_CLASSES:]

    def merged(row: list[int]) -> list[int]:
        return [*(row[place] for place in kept), sum(row[place] for place in rest)]

    last = [sum(column) for column in zip(*(merged(counts[place]) for place in rest), strict=True)]
    return [*(labels[place] for place in kept), OTHERS], [*(merged(counts[place]) for place in kept), last]


def _commonest(labels: list[str], counts: list[list[int]]) -> Block:
    """Return the list of the commonest confusions."""
    found = [(count, i, j) for i, row in enumerate(counts) for j, count in enumerate(row) if count and i != j]
    if not found:
        return Text("No row was classified wrongly.", "good")
    found.sort(key=lambda one: (-one[0], one[1], one[2]))
    rows: list[list[Value]] = [
        [Cell(labels[i], note=f"taken for {labels[j]}"), number(count), share(count, sum(counts[i]))]
        for count, i, j in found[:CONFUSIONS]
    ]
    wrong = sum(count for count, _, _ in found)
    shown = counted(len(rows), "commonest confusion") if len(rows) > 1 else "only confusion"
    caption = f"The {shown}; {counted(wrong, 'row')} in all were classified wrongly."
    return Table(["True class", "Rows", "Of the class"], rows, caption)
