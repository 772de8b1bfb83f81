"""The section of the data-quality report about how evenly the tasks of the shuffles were loaded."""

from collections.abc import Sequence

from etl.reporting.report_records import row
from etl.task_metrics import FEW_RECORDS, StageShuffles
from schemas.report_page import Block, Cell, Section, Table, Text, Tone, Value, figure, number, size

TITLE = "Balance of the shuffles"
UNEVEN = 2.0
"""Above so many times the median task's records the report says that a shuffle is uneven."""


def balance(stages: Sequence[StageShuffles]) -> Section:
    """Of each stage its least even shuffle, and how much all of them moved."""
    if not stages:
        return Section(TITLE, [Text("Nothing was measured: run the stages again, or the whole pipeline.")])
    header = ["Stage", "Shuffles", "Written", "Read", "Spilled", "Tasks", "Records of the median task"]
    header += ["Of the largest task", "Ratio", "Hot keys salted"]
    caption = (
        f"From Spark's own metrics of the last run of each stage. Tasks and their records: those of the stage's least "
        f"even shuffle, of the ones with {FEW_RECORDS:,} records or more; in smaller ones a ratio would say nothing."
    )
    return Section(TITLE, [Table(header, [_row(stage) for stage in stages], caption), _verdict(stages)])


def _row(stage: StageShuffles) -> list[Value]:
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


def _verdict(stages: Sequence[StageShuffles]) -> Block:
    judged = {stage.stage: stage.least_even for stage in stages if stage.least_even is not None}
    uneven = [name for name, worst in judged.items() if worst is not None and worst.ratio > UNEVEN]
    if not judged:
        return Text(f"No shuffle had {FEW_RECORDS:,} records: how they were divided says nothing.", "quiet")
    if uneven:
        return Text(
            f"A task read more than twice the records of the median one in: {', '.join(uneven)}.", "bad"
        )
    return Text("No task read more than twice the records of the median one.", "good")
