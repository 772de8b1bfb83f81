"""Sections of the run report on predicted numbers."""

from typing import Any

from common.pages import charts
from common.pages.page import Chart, ReportSection


def predictions(evaluation: dict[str, Any] | None) -> list[ReportSection]:
    """Return the section on predictions by true value; none before an evaluation, and without two true values."""
    if evaluation is None or evaluation["model"] is None:
        return []
    bins = evaluation["model"]["details"]["distribution"]["bins"]
    if len(bins) < 2:
        return []
    series = {
        "as it should be": [(one["true"], one["true"]) for one in bins],
        "median prediction": [(one["true"], one["middle"]) for one in bins],
        "a tenth lies below": [(one["true"], one["low"]) for one in bins],
        "a tenth lies above": [(one["true"], one["high"]) for one in bins],
    }
    svg = charts.lines("Predictions by true value", series, "true value", "predicted")
    caption = f"Rows of the {evaluation['split']} split, in up to {len(bins)} groups of similar true values."
    return [ReportSection("Predictions", [Chart(svg, caption)])]
