"""Cells that are measured once and kept, and the rows of the table of claims that are made from them."""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypedDict

from common import files
from common.progress import log

RESULTS = Path(__file__).parents[1] / "results"


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


HEAD = list(Row.__annotations__)


def row(claim: str, claimed: float | None, measured: Sequence[float], command: str, at_least: bool) -> Row:
    """Return the row of several measurements: their median, and the least and the most of them.

    The claim holds if the median is `at_least` the claimed figure, or else at most.
    """
    found = median(measured)
    holds = None if claimed is None else found >= claimed if at_least else found <= claimed
    interval = [min(measured), max(measured)] if len(measured) > 1 else None
    return stated(claim, claimed, found, interval, holds, command)


def stated(
    claim: str,
    claimed: float | None,
    measured: float,
    interval: Sequence[float] | None,
    holds: bool | None,
    command: str,
) -> Row:
    """Return the row of one measurement with an interval of its own, rounded to four digits."""
    return Row(
        claim=claim,
        claimed=claimed,
        measured=round(measured, 4),
        interval=None if interval is None else [round(end, 4) for end in interval],
        holds=holds,
        command=command,
    )


class Kept:
    """Figures of a benchmark by cell, in results/<name>.json."""

    def __init__(self, name: str) -> None:
        self.name, self.file, self.command = (
            name,
            RESULTS / f"{name}.json",
            f"python -m benchmarks.methods.{name}",
        )

    def read(self) -> dict[str, Any]:
        """Return the figures of the cells that were measured."""
        found: dict[str, Any] = json.loads(self.file.read_bytes()) if self.file.exists() else {}
        return found

    def measure(self, cells: Iterable[str], figures: Callable[[str], Any], again: bool = False) -> None:
        """Measure the cells that are missing, or all of them `again`, and keep each as soon as it is there."""
        for cell in cells:
            if again or cell not in self.read():
                log(f"{self.name}: {cell} …")
                measured = figures(cell)
                found = {**self.read(), cell: measured}  # another process may have measured some meanwhile
                files.write(self.file, json.dumps(found, indent=1, ensure_ascii=False).encode() + b"\n")

    def main(
        self,
        argv: Sequence[str] | None,
        description: str | None,
        cells: Sequence[str],
        figures: Callable[[str], Any],
        rows: Callable[[], Sequence[Row]],
    ) -> int:
        """Measure what is missing as the command line says, and print the table; return the exit status."""
        parser = argparse.ArgumentParser(
            prog=self.command, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument(
            "--only", nargs="+", choices=cells, default=list(cells), help="measure these cells alone"
        )
        parser.add_argument("--again", action="store_true", help="measure although there are figures")
        arguments = parser.parse_args(argv)
        self.measure(arguments.only, figures, arguments.again)
        show(rows())
        return 0


def cells_of(one: Row) -> list[str]:
    """Return the cells of a row as text, in the order of `Row`."""
    interval = "" if one["interval"] is None else "–".join(f"{end:.4g}" for end in one["interval"])
    claimed = "" if one["claimed"] is None else f"{one['claimed']:g}"
    holds = {None: "", True: "yes", False: "no"}[one["holds"]]
    return [one["claim"], claimed, f"{one['measured']:.4g}", interval, holds, f"`{one['command']}`"]


def show(table: Sequence[Row]) -> None:
    """Print a table of claims, a row a line."""
    for one in table:
        print("  ".join(cell for cell in cells_of(one) if cell))
