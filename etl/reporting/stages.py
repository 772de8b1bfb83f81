"""Sections of the data-quality report on the stages: their cost, and the balance of their shuffles."""

from collections.abc import Sequence

from common.pages.page import (
    Block,
    Cell,
    ReportSection,
    Table,
    Text,
    Tone,
    Value,
    figure,
    number,
    share,
    size,
)
from etl.reporting.records import row
from etl.runs.stage_metrics import FEW_RECORDS, StageMetrics

TITLE = "Balance of the shuffles"
SLOWEST = "Slowest stages"
NOTHING = "Nothing was measured: run the stages again, or the whole pipeline."
UNEVEN = 2.0
"""Multiple of the median task's records above which a shuffle is reported as uneven."""


def slowest(stages: Sequence[StageMetrics]) -> ReportSection:
    """Return the section on the cost of each stage, the slowest first."""
    if not stages:
        return ReportSection(SLOWEST, [Text(NOTHING)])
    total = sum(stage.seconds for stage in stages)
    rows = []
    for stage in sorted(stages, key=lambda stage: -stage.seconds):
        sizes = (stage.input_bytes, stage.output_bytes, stage.peak_bytes, stage.executor_heap_bytes)
        shown = [Cell(size(count) if count else "–", number=True) for count in sizes]
        rows.append(row(stage.stage, figure(stage.seconds, 1), share(stage.seconds, total, bar=True), *shown))
    header = ["Stage", "Seconds", "Of all", "Bytes in", "Bytes out", "Peak memory", "Executor's heap"]
    caption = (
        "The last run of each stage. Bytes in: from the sources, tables, and what the stage kept on disk, as they lie "
        "there. Peak memory: of the driver and all processes below it, sampled every second, and what they share "
        "divided among them; with a local master that is everything. Executor's heap: the largest Java heap in use in "
        "any executor, where a heartbeat told it."
    )
    return ReportSection(SLOWEST, [Table(header, rows, caption)])


def balance(stages: Sequence[StageMetrics]) -> ReportSection:
    """Return the section on each stage's least even shuffle, and the volume of all of them."""
    if not stages:
        return ReportSection(TITLE, [Text(NOTHING)])
    header = ["Stage", "Shuffles", "Written", "Read", "Spilled", "Tasks", "Records of the median task"]
    header += ["Of the largest task", "Ratio", "Hot keys salted"]
    caption = (
        f"From Spark's own metrics of the last run of each stage. Tasks and their records: those of the stage's least "
        f"even shuffle, of the ones with {FEW_RECORDS:,} records or more; in smaller ones a ratio would say nothing."
    )
    return ReportSection(TITLE, [Table(header, [_row(stage) for stage in stages], caption), _verdict(stages)])


def _row(stage: StageMetrics) -> list[Value]:
    worst = stage.least_even
    few = Cell("few records", "quiet") if stage.shuffles else Cell("–", "quiet")
    tasks: list[Value] = [few, "", "", ""]
    if worst is not None:
        tone: Tone = "bad" if worst.ratio > UNEVEN else ""
        tasks = [number(worst.tasks), figure(worst.median_records, 0), number(worst.largest_records)]
        tasks.append(Cell(f"{worst.ratio:.2f}", tone, number=True))
    sizes = (stage.written_bytes, stage.read_bytes, stage.spilled_bytes)
    moved = [Cell(size(count), number=True) for count in sizes]
    return row(stage.stage, number(len(stage.shuffles)), *moved, *tasks, number(stage.salted_keys))


def _verdict(stages: Sequence[StageMetrics]) -> Block:
    judged = {stage.stage: stage.least_even for stage in stages if stage.least_even is not None}
    uneven = [name for name, worst in judged.items() if worst is not None and worst.ratio > UNEVEN]
    if not judged:
        return Text(f"No shuffle had {FEW_RECORDS:,} records: how they were divided says nothing.", "quiet")
    if uneven:
        return Text(
            f"A task read more than twice the records of the median one in: {', '.join(uneven)}.", "bad"
        )
    return Text("No task read more than twice the records of the median one.", "good")
