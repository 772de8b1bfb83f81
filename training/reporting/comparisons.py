"""Comparisons in the run report: verdicts in words, and tables of figures with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from common.pages.page import Cell, Table, Text, Tone, Value, figure
from common.wording import counted, rounded
from training.comparison import statistics
from training.comparison.assessment import FEWEST, Comparison, Difference, p_value, signed

Judged = dict[str, Any]
"""Judgement in evaluation.json."""
NOT_TESTED = (
    "This evaluation says nothing about chance: `python -m training.evaluate` does, with tests and intervals."
)
NAMES = {
    "bleu": "BLEU",
    "f1": "F1",
    "mae": "MAE",
    "pca": "PCA",
    "r2": "R²",
    "rmse": "RMSE",
    "roc_auc": "ROC AUC",
    "rouge_l": "ROUGE-L",
}
"""Figures that are not named by words of their own."""
TONES: dict[str, Tone] = {"ahead": "good", "behind": "bad", "no difference": "quiet", "not tested": "quiet"}


def shown_name(name: str, start: bool = False) -> str:
    """Return the display name of a figure; `start` makes it the beginning of a line."""
    words = NAMES.get(name, name.replace("_", " ").replace(" f1", " F1"))
    return words[:1].upper() + words[1:] if start else words


def verdict(baseline: Judged, name: str, figures: Sequence[str]) -> list[Text]:
    """Say in which figures the model is ahead of a baseline, behind it, or neither, and how that was tested."""
    comparison = Comparison.read(baseline.get("comparison"))
    if comparison is None:
        return [Text(NOT_TESTED, "quiet")] if baseline["rows"] else []
    by_verdict: dict[str, list[str]] = {which: [] for which in TONES}
    for one in figures:
        by_verdict[comparison.figures[one].verdict].append(shown_name(one))
    said = [
        f"The model is {where} {name} in {listed(by_verdict[which])}."
        for which, where in (("ahead", "ahead of"), ("behind", "behind"))
        if by_verdict[which]
    ]
    if by_verdict["no difference"]:
        said.append(
            f"In {listed(by_verdict['no difference'])}, {these(comparison.rows)} can show no "
            f"difference between the model and {name}."
        )
    if by_verdict["not tested"]:
        said.append(
            f"The difference in {listed(by_verdict['not tested'])} is the same on every draw, and is not tested."
        )
    tones = {which for which, named in by_verdict.items() if named}
    tone: Tone = TONES[tones.pop()] if len(tones) == 1 else ""
    return [Text(" ".join(said), "" if tone == "quiet" else tone), Text(method(comparison), "quiet")]


def listed(names: Sequence[str]) -> str:
    """Return `a`, `a and in b`, or `a, b and c`."""
    if len(names) < 3:
        return " and in ".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def these(rows: int) -> str:
    """Return `these 20 rows`, `this 1 row`."""
    return f"{'this' if rows == 1 else 'these'} {counted(rows, 'row')}"


def method(comparison: Comparison) -> str:
    """Say how a comparison was tested."""
    drawn = f"{statistics.REPLICATES:,} replicates"
    if comparison.unit == "row":
        tested = f"a paired bootstrap over rows ({drawn})"
        if any(one.test == "McNemar" for one in comparison.figures.values()):
            tested = f"McNemar's test (mid-p) for accuracy, {tested} for all other figures"
    else:
        tested = f"a paired bootstrap over {counted(comparison.units, 'group')} of rows that belong together ({drawn})"
    rows = counted(comparison.differing, comparison.unit)
    if not comparison.groups_known:
        tested += (
            "; silver could not be read, so that rows of one group or cluster count as independent, and intervals may "
            "be too narrow"
        )
    return (
        f"Tested on the same {counted(comparison.rows, 'row')}: {tested}. The two differ on {rows}. Intervals hold "
        "95%; a lead or a lag is claimed where the interval leaves out zero, p is below 0.05, and the two differ on "
        f"at least {counted(FEWEST, comparison.unit)}."
    )


def table(model: Judged, baselines: Mapping[str, Judged], names: Mapping[str, str]) -> Table:
    """Return the figures of the model beside those of the baselines by heading, with intervals and verdicts.

    `names` are the figures to show, with their headings. Of several baselines each has one column, whose notes say the
    rest.
    """
    comparisons = [Comparison.read(baseline.get("comparison")) for baseline in baselines.values()]
    tested = any(comparisons)  # otherwise nothing is known of chance: a column of verdicts would be empty
    header = ["", "Model"]
    for heading in baselines:
        header += [heading] if len(baselines) > 1 else [heading, "Difference", *[""] * tested]
    rows: list[list[Value]] = []
    for name, heading in names.items():
        row: list[Value] = [heading, measured(model, name)]
        for baseline, comparison in zip(baselines.values(), comparisons, strict=True):
            one = None if comparison is None else comparison.figures.get(name)
            # A threshold, for instance, has no better and worse.
            mine = model["figures"][name] if comparison is None or one is not None else None
            less = difference(mine, baseline["figures"].get(name), None if one is None else one.interval)
            if len(baselines) == 1:
                row += [measured(baseline, name), less, *([""] if one is None else [judged(one)]) * tested]
                continue
            found = measured(baseline, name)
            if one is not None:
                found = replace(found, tone=TONES[one.verdict], note=f"model {less.text}; {one.verdict}")
            row.append(found)
        rows.append(row)
    return Table(header, rows)


def measured(judgement: Judged, name: str) -> Cell:
    """Return a figure with its interval below."""
    value, ends = judgement["figures"].get(name), (judgement.get("intervals") or {}).get(name)
    between = " to " if ends is not None and ends[0] < 0 else "–"
    return replace(figure(value), note=between.join(map(rounded, ends or [])))


def difference(model: float | None, baseline: float | None, ends: Sequence[float] | None = None) -> Cell:
    """Return the difference between model and baseline with its sign, and its interval below."""
    if model is None or baseline is None:
        return Cell("–", number=True)
    # JSON has null for an end that is not finite.
    note = "" if ends is None or None in ends else f"{signed(ends[0])} to {signed(ends[1])}"
    return Cell(signed(model - baseline), number=True, note=note)


def judged(one: Difference) -> Cell:
    """Return the verdict on a figure, with its test, if any, below."""
    said = "no difference shown" if one.verdict == "no difference" else one.verdict
    note = "" if said == "not tested" else f"{one.test}, p {p_value(one.p)}"
    return Cell(said, TONES[one.verdict], note=note)
