"""Sections of the run report for a classification."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from common.pages import charts
from common.pages.page import (
    Beside,
    Block,
    Cell,
    Chart,
    Folded,
    Picture,
    Pictures,
    ReportSection,
    Table,
    Text,
    Value,
    figure,
    number,
    share,
)
from common.wording import counted
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
FOLDED_CLASSES = 1_000
"""Classes up to which the folded table lists all of them: a page has to open."""
CONFUSIONS = 10
OTHERS = "(all others)"
Pair = tuple[int, int, int]
"""Places of the true and the predicted class, and their rows."""


def sections(manifest: Manifest, evaluation: Evaluation | None) -> list[ReportSection]:
    """Return the figures against the baseline, the confusion matrices, and the classes of the training split."""
    balance = class_mix.section(manifest.splits["train"])
    against = against_baseline(evaluation)
    if evaluation is None:
        against = ReportSection(against.title, [not_evaluated(manifest)])
    return [against, *confusion(evaluation), *most_confident(evaluation), balance]


def against_baseline(evaluation: Evaluation | None) -> ReportSection:
    """Show the model and the linear baseline side by side, whichever is better, and what is chance."""
    title = "Test split, model and baseline"
    if evaluation is None:
        return ReportSection(title, [Text(NOT_EVALUATED, "quiet")])
    model, baseline = evaluation["model"], evaluation["baselines"].get("linear")
    if baseline is None:
        why = (
            "`evaluate.baseline` is false, the training split has only one class, or so many that a weight for each of "
            "them and of `evaluate.hashed_features` would be too many"
        )
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


def most_confident(evaluation: Evaluation | None) -> list[ReportSection]:
    """Return the sheet of the mistakes that the model is most sure of; nothing without images."""
    mistakes = None if evaluation is None else evaluation["model"]["details"].get("mistakes")
    if mistakes is None:
        return []
    title = "Most confident mistakes"
    if not mistakes:
        return [ReportSection(title, [Text("No row was classified wrongly.", "good")])]
    by_class: dict[str, list[Picture]] = {}
    for one in mistakes:
        caption = f"taken for {one['predicted']}, {100 * one['confidence']:.0f}%"
        by_class.setdefault(one["true"], []).append(Picture(one["picture"], caption))
    caption = (
        "Wrongly classified rows by their true class, with what the model took them for and how sure it was."
    )
    return [ReportSection(title, [Pictures(list(by_class.items()), caption)])]


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
            ends = intervals[place] if intervals else None
            row += [figure(other["f1"]), comparisons.difference(one["f1"], other["f1"], ends)]
        rows.append(row)
    header = ["Class", "Rows", "Precision", "Recall", "F1"]
    header += [] if baseline is None else ["F1 of the baseline", "Difference"]
    note = ""
    if any(intervals) and len(classes) > 1:
        note = "Below each difference is its own 95% interval: by chance alone, one class in twenty lies beside zero."
    if len(classes) <= LISTED_CLASSES:
        return [Table(header, rows, note)]
    order = sorted(range(len(classes)), key=lambda place: (-classes[place]["rows"], place))
    largest = [rows[place] for place in order[:LISTED_CLASSES]]
    caption = f"The {LISTED_CLASSES} of {len(classes):,} classes with most rows. {note}"
    if len(classes) <= FOLDED_CLASSES:
        folded = Folded(f"All {len(classes):,} classes", [Table(header, rows)])
    else:
        first = [rows[place] for place in order[:FOLDED_CLASSES]]
        told = f"The {FOLDED_CLASSES:,} classes with most rows; evaluation.json has all {len(classes):,}"
        folded = Folded(told, [Table(header, first)])
    return [Table(header, largest, caption), folded]


def _described(baseline: dict[str, Any]) -> str:
    # An evaluation of an earlier version names the validation split in the key.
    accuracies = baseline.get("candidate_accuracy") or baseline["validation_accuracy"]
    tried = ", ".join(f"{c}: {accuracy:.3f}" for c, accuracy in accuracies.items())
    learned_from = baseline.get("learned_from", "hashed word 1- and 2-grams of the full cleaned texts")
    described = (
        f"The baseline: logistic regression on {learned_from}, trained on the same training split. Accuracy on the "
        f"{baseline.get('chosen_on', 'validation')} split by C: {tried}; "
        f"C = {baseline['regularisation']:g} was taken."
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
    labels, pairs = [each["label"] for each in details["classes"]], _pairs(details)
    if len(labels) <= TABLE_CLASSES:
        rows: list[list[Value]] = []
        for label, row in zip(labels, _dense(len(labels), pairs), strict=True):
            total = max(1, sum(row))
            rows.append([label, *(Cell(f"{count:,}", shade=count / total) for count in row)])
        caption = (
            f"The {name}: rows are the true class, columns the predicted one; shaded by the share of the row."
        )
        matrix = Table(["", *labels], rows, caption)
        return [matrix, *([_commonest(labels, pairs)] if len(labels) > 4 else [])]
    shown, merged = _largest(labels, pairs)
    svg = charts.heat_map(f"Confusion matrix of the {name}", shown, merged)
    caption = (
        f"The {name}: rows are the true class, columns the predicted one. Blue is right, orange wrong; the stronger, "
        "the larger the share of the row (by its square root, so that a hundredth still shows)."
    )
    if len(shown) < len(labels):
        caption += (
            f" The {MAP_CLASSES} classes with most rows of {len(labels):,}; the others are put together."
        )
    return [Beside([Chart(svg, caption, wide=True), _commonest(labels, pairs)])]


def _pairs(details: dict[str, Any]) -> list[Pair]:
    found = details["confusion"]
    if isinstance(found, list):  # the whole matrix, as earlier versions wrote it
        return [(i, j, count) for i, row in enumerate(found) for j, count in enumerate(row) if count]
    return list(zip(found["true"], found["predicted"], found["rows"], strict=True))


def _dense(size: int, pairs: Iterable[Pair]) -> list[list[int]]:
    matrix = [[0] * size for _ in range(size)]
    for true, predicted, count in pairs:
        matrix[true][predicted] += count
    return matrix


def _largest(labels: list[str], pairs: list[Pair]) -> tuple[list[str], list[list[int]]]:
    """Return the names and the matrix of at most `MAP_CLASSES` classes, and the others put together as one more."""
    if len(labels) <= MAP_CLASSES:
        return labels, _dense(len(labels), pairs)
    totals = _rows_by_class(pairs)
    kept = sorted(sorted(range(len(labels)), key=lambda place: (-totals[place], place))[:MAP_CLASSES])
    places = {place: number for number, place in enumerate(kept)}

    def merged(place: int) -> int:
        return places.get(place, MAP_CLASSES)

    matrix = _dense(MAP_CLASSES + 1, ((merged(i), merged(j), count) for i, j, count in pairs))
    return [*(labels[place] for place in kept), OTHERS], matrix


def _rows_by_class(pairs: Iterable[Pair]) -> Counter[int]:
    totals = Counter[int]()
    for true, _, count in pairs:
        totals[true] += count
    return totals


def _commonest(labels: list[str], pairs: list[Pair]) -> Block:
    """Return the list of the commonest confusions."""
    found, totals = [(count, i, j) for i, j, count in pairs if i != j], _rows_by_class(pairs)
    if not found:
        return Text("No row was classified wrongly.", "good")
    found.sort(key=lambda one: (-one[0], one[1], one[2]))
    rows: list[list[Value]] = [
        [Cell(labels[i], note=f"taken for {labels[j]}"), number(count), share(count, totals[i])]
        for count, i, j in found[:CONFUSIONS]
    ]
    wrong = sum(count for count, _, _ in found)
    shown = counted(len(rows), "commonest confusion") if len(rows) > 1 else "only confusion"
    caption = f"The {shown}; {counted(wrong, 'row')} in all were classified wrongly."
    return Table(["True class", "Rows", "Of the class"], rows, caption)
