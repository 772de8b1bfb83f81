"""Sections of the data-quality report on typed columns: what became of their values, and how these are distributed."""

from common.pages import charts
from common.pages.page import Block, Cell, Chart, ReportSection, Table, Text, number, share
from common.wording import counted
from etl.figures.columns import rebinned
from etl.figures.drift import LARGE, MODERATE, EarlierProfile, Profile, column_drift
from etl.figures.facts import Distribution, Summary
from etl.reporting.records import row

TITLE = "Typed columns"
MOST_CHARTS = 60
DAYS_OF_A_YEAR = 365.2425


def distributions(summary: Summary, before: EarlierProfile | None) -> list[ReportSection]:
    """Return the section with a small chart of each typed column, beside the version before, and correlations."""
    if not summary.distributions:
        return []
    moved = {} if before is None else column_drift(before.profile, Profile.of(summary))
    blocks: list[Block] = []
    for name, now in list(summary.distributions.items())[:MOST_CHARTS]:
        old = None if before is None else before.profile.columns.get(name)
        is_date = name in summary.typed and summary.typed[name].kind == "date"
        blocks.append(Chart(_chart(name, now, old, before, is_date), _caption(now, moved.get(name))))
    if len(summary.distributions) > MOST_CHARTS:
        rest = counted(len(summary.distributions) - MOST_CHARTS, "more column")
        blocks.append(Text(f"Not shown: {rest}.", "quiet"))
    found = summary.correlation
    if found is not None:
        said = (
            "Spearman's rank correlation of the columns of numbers and dates: one colour where both rise together, the "
            "other where one falls; the stronger, the darker."
        )
        blocks.append(Chart(charts.correlations("Correlation", found.names, found.values), said, wide=True))
    return [ReportSection("Distribution of the columns", blocks)]


def _chart(
    name: str, now: Distribution, old: Distribution | None, before: EarlierProfile | None, is_date: bool
) -> str:
    """Draw the shares of the values of a column, beside those of the version before."""
    if now.edges:
        series = {"this version": _percentages([float(count) for count in now.counts])}
        if before is not None and old is not None and old.edges:
            series[f"version {before.version}"] = _percentages(rebinned(old, now.edges))
        edges = [1970 + day / DAYS_OF_A_YEAR for day in now.edges] if is_date else now.edges
        return charts.histogram(name, edges, series, "year" if is_date else "value", "% of the values")
    series = {"this version": _percentages([float(count) for count in now.counts])}
    if before is not None and old is not None:
        counts = dict(zip(old.names, old.counts, strict=False))
        whole = sum(old.counts) or 1
        series[f"version {before.version}"] = [100 * counts.get(each, 0) / whole for each in now.names]
    return charts.bars(name, series, now.names, "", "% of the values")


def _percentages(counts: list[float]) -> list[float]:
    whole = sum(counts) or 1.0
    return [100 * count / whole for count in counts]


def _caption(now: Distribution, moved: float | None) -> str:
    """Say how many values are missing, and how far the column moved."""
    missing = f"{100 * now.missing / now.rows:.1f}% missing" if now.rows else "no rows"
    beyond = "; the outermost bars take in what lies beyond" if now.edges else ""
    if moved is None:
        return f"{missing}{beyond}."
    verdict = "large shift" if moved > LARGE else "moderate shift" if moved > MODERATE else "stable"
    return f"{missing}; drift {moved:.3f} ({verdict}){beyond}."


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
