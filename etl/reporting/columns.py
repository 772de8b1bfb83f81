"""Section of the data-quality report on typed columns."""

from common.pages.page import Cell, ReportSection, Table, number, share
from etl.figures.facts import Summary
from etl.reporting.records import row

TITLE = "Typed columns"


def typed(summary: Summary) -> ReportSection:
    """Return the section on the normalised values of each typed column."""
    read = summary.records_in - summary.quarantined
    published = summary.published_rows
    rows = []
    for name, facts in summary.typed.items():
        left_out = sum(
            count for reason, count in summary.filtered_by_rule.items() if reason.rpartition(".")[0] == name
        )
        rows.append(
            row(
                Cell(name, "name"),
                Cell(facts.column, "code"),
                facts.kind,
                number(facts.normalised),
                number(facts.invalid),
                number(facts.missing),
                share(facts.missing, read),
                number(left_out),
                number(facts.published_missing),
                number(facts.published_outliers),
                share(facts.published_outliers, published),
            )
        )
    header = ["Feature", "Column", "Type", "In one notation", "Invalid", "Missing", "Of all", "Left out"]
    header += ["Filled", "Outliers", "Of the rows"]
    caption = (
        "Of the records that could be read: values that were brought into one notation, that are none of their type, "
        "that are missing. Left out: for a missing or invalid value or as an outlier. Of the published rows: values "
        "that were filled in, and outliers that were marked or clipped, by what the training split taught."
    )
    return ReportSection(TITLE, [Table(header, rows, caption)])
