"""Rows of the table of claims."""

from collections.abc import Sequence
from statistics import median
from typing import Any, TypedDict


class Row(TypedDict):
    """Claim beside what was measured."""

    claim: str
    claimed: float | None
    """None: a figure without a claim."""
    measured: float
    interval: Sequence[float] | None
    """Ends of the measured figure's range; None where there is one measurement alone."""
    holds: bool | None
    command: str
    """What prints the row."""


def row(claim: str, claimed: float | None, measured: Sequence[float], command: str, at_least: bool) -> Row:
    """Return the row of several measurements: their median, and the least and the most of them.

    The claim holds if the median is `at_least` the claimed figure, or else at most.
    """
    found = median(measured)
    holds = None if claimed is None else found >= claimed if at_least else found <= claimed
    interval = [round(min(measured), 4), round(max(measured), 4)] if len(measured) > 1 else None
    return Row(
        claim=claim,
        claimed=claimed,
        measured=round(found, 4),
        interval=interval,
        holds=holds,
        command=command,
    )


def cells_of(one: dict[str, Any]) -> list[str]:
    """Return the cells of a row as text, in the order of `Row`."""
    interval = "" if one["interval"] is None else "–".join(f"{end:.4g}" for end in one["interval"])
    claimed = "" if one["claimed"] is None else f"{one['claimed']:g}"
    holds = {None: "", True: "yes", False: "no"}[one["holds"]]
    return [one["claim"], claimed, f"{one['measured']:.4g}", interval, holds, f"`{one['command']}`"]


def show(table: Sequence[Row]) -> None:
    """Print a table of claims, a row a line."""
    for one in table:
        print("  ".join(cell for cell in cells_of(dict(one)) if cell))
