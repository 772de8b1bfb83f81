"""Sections of the run report on silos and ranks that learn by themselves, and how their weights come together."""

from collections.abc import Mapping
from typing import Any

from common.pages.page import Block, Cell, Points, ReportSection, Table, Text, remarks
from common.wording import counted

RULES = {
    "mean": "their mean, weighted by rows: one hostile silo can move it anywhere",
    "median": "the median of each parameter",
    "trimmed_mean": "the mean of each parameter without its lowest and highest values",
    "multi_krum": "the mean of the updates that lie closest to their neighbours (multi-Krum)",
    "clipped_mean": "their mean, weighted by rows, each cut to a norm",
}
TRUST = (
    "The ranks are one domain of trust: each sees the updates of all silos, and updates can tell of rows. Nothing is "
    "encrypted from one silo to another, and none proves that it has trained as it should",
    "Silos are numbered, not named; their rows never left the rank that they belong to",
)


def section(training: Mapping[str, Any]) -> list[ReportSection]:
    """Return the section; [] where the training had no silos. `training` is that section of summary.json."""
    found = training.get("federated")
    if found is None:
        return []
    hostile = f", {found['hostile']} assumed hostile" if found["hostile"] else ""
    clip = "" if found["clip"] is None else f" of {found['clip']:g}"
    rows = [
        [
            Cell(f"{one['silo']:,}", number=True),
            Cell(f"{one['rows']:,}", number=True),
            Cell(f"{one['left_out']:,}", number=True),
        ]
        for one in found["silos"]
    ]
    blocks: list[Block] = [
        Text(
            f"{counted(len(rows), 'silo')} by {found['by']} learned by themselves for "
            f"{counted(found['local_epochs'], 'epoch')} a round, {counted(found['rounds'], 'round')} in all. "
            f"Combined by {found['combine']}: {RULES[found['combine']]}{clip}{hostile}."
        ),
        Table(["silo", "rows", "rounds in which its update was left out"], rows),
        Points(remarks(TRUST)),
    ]
    return [ReportSection("Silos", blocks)]


def local_steps(training: Mapping[str, Any]) -> list[ReportSection]:
    """Return the section on local SGD; [] where no rank stepped by itself. `training` is that of summary.json."""
    found = training.get("local_sgd")
    if found is None:
        return []
    every = counted(found["synchronise_every"], "step")
    states = "averaged as well" if found["optimizer_state"] == "average" else "left to each rank"
    told = (
        f"Each rank stepped by itself on its own rows. Their weights became their mean, weighted by rows, every "
        f"{every} and at the end of each epoch; the state of the optimizer was {states}. Another number of ranks "
        "gives other weights."
    )
    return [ReportSection("Local steps", [Text(told)])]
