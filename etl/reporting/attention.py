"""First section of the data-quality report: everything that somebody should look at, before any figure."""

from collections.abc import Iterable, Sequence

from common.pages.page import Points, ReportSection, Text, remarks
from common.wording import counted
from etl.duplicates.contents import content_of
from etl.figures.drift import LARGE, VOCABULARY, EarlierProfile, Profile, drifts
from etl.figures.facts import Summary
from etl.gates.results import GateResults, sentence_of
from etl.reporting.drift import MEASURES
from etl.reporting.stages import UNEVEN
from etl.runs.stage_metrics import StageMetrics
from schemas import lopsided
from schemas.config import Configuration

TITLE = "Needs attention"


def attention(
    summary: Summary,
    config: Configuration,
    gates: GateResults,
    similarities: Sequence[tuple[str, float]] = (),
    stages: Sequence[StageMetrics] = (),
    before: EarlierProfile | None = None,
) -> ReportSection:
    """Return the section: failed gates first, then what no gate judges."""
    failed = [Text(f"Gate failed: {sentence_of(gate)}.", "bad") for gate in gates.gates if not gate.passed]
    found = remarks(_remarks(summary, config))
    leaked = sum(value >= content_of(config).limit for _, value in similarities)
    if leaked:
        have = "has" if leaked == 1 else "have"
        said = f"{leaked:,} of {counted(len(similarities), 'sampled test row')} {have} a near-copy"
        failed.append(Text(f"Leakage: {said} in the training split.", "bad"))
    for drift in drifts(before.profile, Profile.of(summary)) if before is not None else ():
        if drift.value > LARGE and drift.measure != VOCABULARY:
            about = MEASURES[drift.measure][0]
            found.append(
                Text(f"A large shift since the version before: {about.lower()} ({drift.value:.2f}).")
            )
    for stage in stages:
        worst = stage.least_even
        if worst is not None and worst.ratio > UNEVEN:
            found.append(
                Text(
                    f"Uneven work in `{stage.stage}`: a task read {worst.ratio:.1f} times the median's records."
                )
            )
    if not failed and not found:
        passed = counted(len(gates.gates), "gate")
        return ReportSection(TITLE, [Text(f"Nothing: {passed} passed, and nothing else stands out.", "good")])
    return ReportSection(TITLE, [Points([*failed, *found])])


def _remarks(summary: Summary, config: Configuration) -> Iterable[str]:
    if summary.records_in != summary.accounted:
        yield f"{counted(abs(summary.records_in - summary.accounted), 'record')} not accounted for"
    unreadable = sum(source.unreadable for source in summary.sources)
    if unreadable:
        yield f"{counted(unreadable, 'file')} could not be read: see the quarantine"
    yield from lopsided.of_splits(summary.published, config.split.model_dump())
    yield from lopsided.of_classes(summary.classes)
    yield from lopsided.of_tokens(summary.kept_tokens())
    if summary.conflicting_clusters:
        yield f"{summary.label_conflicts:,} copies and near-copies have contradictory labels"
