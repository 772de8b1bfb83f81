"""Sections of the run report on anomaly scores."""

from typing import Any

from common.pages import charts
from common.pages.page import Block, Cell, Chart, ReportSection, Table, Text, Value
from training.reporting.comparisons import shown_name


def scores(evaluation: dict[str, Any] | None) -> list[ReportSection]:
    """Return the section on the scores of the model and the thresholds of all detectors; none before an evaluation."""
    if evaluation is None or evaluation["model"] is None:
        return []
    found = evaluation["model"]["details"]
    threshold, distribution = found["threshold"], found["distribution"]
    svg = charts.histogram(
        "Score of the rows",
        distribution["edges"],
        distribution["rows"],
        "mean squared error of a row",
        f"rows of the {evaluation['split']} split",
        logarithmic=True,
        limit=threshold["value"],
    )
    blocks: list[Block] = [
        Chart(svg, "Both axes are logarithmic; rows to the right of the dashed line are flagged."),
        Text(chosen(threshold, labelled="anomalous" in distribution["rows"])),
    ]
    if evaluation["baselines"]:
        detectors = {"the model": evaluation["model"], **evaluation["baselines"]}
        rows: list[list[Value]] = [_row(name, one) for name, one in detectors.items()]
        header = [
            "Detector",
            "Threshold",
            "Precision there",
            "Recall there",
            "Chosen by the validation split",
        ]
        caption = "Each detector has its own scale, and a threshold of its own chosen in the same way."
        blocks.append(Table(header, rows, caption))
    return [ReportSection("Scores and threshold", blocks)]


def chosen(threshold: dict[str, Any], labelled: bool) -> str:
    """Say how a threshold was chosen, on rows with or without labels."""
    value, rows = f"{threshold['value']:.4g}", f"the {threshold['rows']:,} rows of the validation split"
    if threshold["chosen_by"] == "contamination":
        unknown = "nothing is known of the precision"
        told = (
            f"The validation split has no anomaly: {unknown} there."
            if labelled
            else f"Without labels {unknown}."
        )
        return (
            f"Rows with a score of {value} or more are flagged: {100 * threshold['wanted']:g}% of {rows}, as "
            f"objective.contamination says. {told}"
        )
    reached = f"precision {threshold['precision']:.3f}, recall {threshold['recall']:.3f}"
    if threshold["chosen_by"] == "f1":
        return (
            f"Rows with a score of {value} or more are flagged. No threshold reaches the precision of "
            f"{threshold['wanted']:g} aimed at on {rows}; this one has the highest F1 there ({reached})."
        )
    return (
        f"Rows with a score of {value} or more are flagged: the threshold of the highest recall on {rows} whose "
        f"precision is {threshold['wanted']:g} or more there ({reached})."
    )


def _row(name: str, judged: dict[str, Any]) -> list[Value]:
    details = dict(judged["details"])
    threshold = details.pop("threshold")
    details.pop("distribution", None)
    more = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in details.items())
    return [
        shown_name(name, start=True),
        Cell(f"{threshold['value']:.4g}", number=True),
        *(
            Cell("–" if threshold[key] is None else f"{threshold[key]:.3f}", number=True)
            for key in ("precision", "recall")
        ),
        more or "–",
    ]
