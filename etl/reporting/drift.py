"""Section of the data-quality report that compares a version with the previous one."""

from collections.abc import Mapping
from typing import TypeVar

from common.pages import charts
from common.pages.page import (
    Block,
    Cell,
    Chart,
    ReportSection,
    Table,
    Text,
    Tone,
    Value,
    figure,
    number,
    share,
)
from etl.figures.drift import (
    CLASSES,
    COLUMNS,
    LARGE,
    LENGTHS,
    MODERATE,
    OUTCOMES,
    VOCABULARY,
    EarlierProfile,
    Profile,
    divergence_by_word,
    drifts,
)
from etl.reporting.records import row
from etl.reporting.splits import bin_label
from schemas.config import Configuration

Name = TypeVar("Name")
TITLE = "Compared with the version before"
MOST_CLASSES = 12
MOST_WORDS = 12
MEASURES = {
    CLASSES: ("Classes of the published rows", "population stability index"),
    LENGTHS: ("Lengths of the published texts", "population stability index"),
    VOCABULARY: ("Words of the published texts", "Jensen–Shannon divergence, bits"),
    COLUMNS: ("Values of the typed columns", "population stability index, of the column that moved most"),
    OUTCOMES: ("What became of the records", "population stability index"),
}
"""By measure its subject, and its unit."""


def compared(before: EarlierProfile | None, now: Profile, config: Configuration) -> ReportSection:
    """Return the section on drift: the measures that moved, and how far."""
    if before is None:
        return ReportSection(
            TITLE,
            [
                Text(
                    "There is no version before this one, or nothing is kept of it that could be compared.",
                    "quiet",
                )
            ],
        )
    limits = config.quality.drift_limits()
    rows = []
    for drift in drifts(before.profile, now):
        about, how = MEASURES[drift.measure]
        limit = limits[drift.measure]
        rows.append(
            row(
                about, how, figure(drift.value, 4), _verdict(drift.measure, drift.value, limit), _limit(limit)
            )
        )
    caption = (
        f"Version {before.version} and this one. An index below {MODERATE} is commonly read as stable, one above "
        f"{LARGE} as a large shift; a divergence is 0 for the same shares of all words, and 1 for no common word."
    )
    blocks: list[Block] = [Table(["", "Measure", "Distance", "", "Limit"], rows, caption)]
    blocks += _charts(before, now)
    blocks.append(_outcomes(before, now))
    words = _words(before, now)
    if words is not None:
        blocks.append(words)
    return ReportSection(TITLE, blocks)


def _verdict(measure: str, value: float, limit: float | None) -> Cell:
    if limit is not None:
        return Cell("above the limit", "bad") if value > limit else Cell("within the limit", "good")
    if measure == VOCABULARY:
        return Cell("–", "quiet")
    tone: Tone = "bad" if value > LARGE else "" if value > MODERATE else "good"
    return Cell("large shift" if value > LARGE else "moderate shift" if value > MODERATE else "stable", tone)


def _limit(limit: float | None) -> Cell:
    return Cell("–" if limit is None else f"{limit:g}", number=True)


def _charts(before: EarlierProfile, now: Profile) -> list[Chart]:
    names = (f"version {before.version}", "this version")
    found = []
    largest = sorted(now.classes, key=lambda name: (-now.classes[name], name))[:MOST_CLASSES]
    if largest:
        series = dict(zip(names, _shares(before.profile.classes, now.classes, largest), strict=True))
        title = "Class mix" if len(now.classes) <= MOST_CLASSES else f"The {MOST_CLASSES} largest classes"
        found.append(
            Chart(
                charts.bars(title, series, largest, "class", "% of the rows"), "Shares of the published rows."
            )
        )
    for column in now.lengths:
        old, new = before.profile.lengths.get(column, {}), now.lengths[column]
        used = old.keys() | new.keys()
        if not used:
            continue
        bins = list(range(min(used), max(used) + 1))
        series = dict(zip(names, _shares(old, new, bins), strict=True))
        labels = [bin_label(k) for k in bins]
        svg = charts.bars(f"Characters of {column}", series, labels, "characters", "% of the rows")
        found.append(Chart(svg, f"Length of {column} as published."))
    return found


def _shares(
    before: Mapping[Name, int], now: Mapping[Name, int], names: list[Name]
) -> tuple[list[float], list[float]]:
    """Return percentages before and now."""
    whole = sum(before.values()) or 1, sum(now.values()) or 1
    return (
        [100 * before.get(name, 0) / whole[0] for name in names],
        [100 * now.get(name, 0) / whole[1] for name in names],
    )


def _outcomes(before: EarlierProfile, now: Profile) -> Table:
    old, whole_old, whole_now = (
        before.profile.outcomes,
        sum(before.profile.outcomes.values()),
        sum(now.outcomes.values()),
    )
    rows: list[list[Value]] = []
    for name in dict.fromkeys([*now.outcomes, *old]):
        counts = old.get(name, 0), now.outcomes.get(name, 0)
        if any(counts):
            rows.append(
                row(
                    name,
                    number(counts[0]),
                    share(counts[0], whole_old),
                    number(counts[1]),
                    share(counts[1], whole_now),
                )
            )
    header = ["What became of the records", f"Version {before.version}", "Share", "This version", "Share"]
    return Table(header, rows, "Without those that were erased on request.")


def _words(before: EarlierProfile, now: Profile) -> Table | None:
    parts = divergence_by_word(before.profile.words, now.words)
    if not parts:
        return None
    moved = sorted((word for word in parts if parts[word] > 0), key=lambda word: (-parts[word], word))[
        :MOST_WORDS
    ]
    old, new = before.profile.words, now.words
    rows = [
        row(
            Cell(word, "code"),
            share(old.get(word, 0), sum(old.values())),
            share(new.get(word, 0), sum(new.values())),
            figure(parts[word], 5),
        )
        for word in moved
    ]
    caption = (
        "The words that moved most, of a sample of the published texts. Shares are of all words, each counted once a "
        "record; words of very few records are left out."
    )
    return (
        Table(["Word", f"Version {before.version}", "This version", "Adds to the distance"], rows, caption)
        if rows
        else None
    )
