"""Classes of the training split before and after balancing: a section of both reports."""

from dataclasses import dataclass

from common.pages.page import Block, ReportSection, Table, Text, Value, figure, number, share
from common.wording import counted
from schemas.manifest import SplitContent

MOST_CLASSES = 40
SAID = {
    "none": "The policy is `none`: training takes each row once an epoch, and all rows count alike.",
    "weights": (
        "The policy is `weights`: training takes each row once an epoch, and its loss counts as much as its class "
        "weighs."
    ),
    "oversample": (
        "The policy is `oversample`: training takes each row as often an epoch as stands beside its class, by index; "
        "no row is copied."
    ),
    "where": (
        "By `train.where`, training takes each row of the classes marked 1 once an epoch, and no row of "
        "the others."
    ),
}


@dataclass(frozen=True)
class ClassShare:
    """Class in the training split."""

    name: str
    rows: int
    repeats: int
    """Repeats of each of its rows in an epoch."""
    weight: float
    """Loss weight of each row."""

    @property
    def effect(self) -> float:
        """Effective number of rows of the class in an epoch."""
        return self.rows * self.repeats * self.weight


def class_shares(split: SplitContent) -> list[ClassShare]:
    """Return all classes, the largest first."""
    balance = split.balance
    shares = [
        ClassShare(name, rows, balance.repeats.get(name, 1), balance.weights.get(name, 1.0))
        for name, rows in split.label_counts.items()
    ]
    return sorted(shares, key=lambda one: (-one.rows, one.name))


def section(split: SplitContent) -> ReportSection:
    """Return the section on the classes of a split, as published and as training meets them."""
    shares = class_shares(split)
    before, after = sum(one.rows for one in shares), sum(one.effect for one in shares)
    most_before = max([1, *(one.rows for one in shares)])
    most_after = max([1.0, *(one.effect for one in shares)])
    rows: list[list[Value]] = [
        [
            one.name,
            number(one.rows, bar=one.rows / most_before),
            share(one.rows, before),
            number(one.repeats),
            figure(one.weight),
            number(round(one.effect), bar=one.effect / most_after),
            share(one.effect, after),
        ]
        for one in shares[:MOST_CLASSES]
    ]
    header = [
        "Class",
        "Rows",
        "Share before",
        "Taken an epoch",
        "Weight of a row",
        "Counts as rows",
        "Share after",
    ]
    blocks: list[Block] = [Text(SAID[split.balance.policy])]
    if split.balance.policy != "none":
        blocks.append(
            Table(header, rows, "Rows of the training split as published, and as training meets them.")
        )
        if len(shares) > MOST_CLASSES:
            rest = counted(len(shares) - MOST_CLASSES, "smaller class", "smaller classes")
            blocks.append(Text(f"Not shown: {rest}.", "quiet"))
        there = [one.rows for one in shares if one.rows]
        felt = [one.effect for one in shares if one.rows]
        if split.balance.policy == "where":
            blocks.append(Text(f"An epoch takes {split.epoch_rows:,} rows of {split.rows:,}."))
        elif there:
            blocks.append(
                Text(
                    f"An epoch takes {split.epoch_rows:,} rows of {split.rows:,}. The largest class counts "
                    f"{max(there) / min(there):,.1f} times as much as the smallest before, "
                    f"{max(felt) / min(felt):,.1f} times after."
                )
            )
    return ReportSection("Class balance of the training split", blocks)
