"""Quality of the mixing by windows and streams: `python benchmarks/shuffle.py [--write]`.

Arithmetic on the orders of `training.input.order` alone: no files, no training, equal figures on every machine.
Prints the tables of docs/shuffling.md; --write puts them there, with the two figures beside them. The cost of
planning an epoch is a time of this machine, and only printed.
"""

import argparse
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common import command
from common.errors import CheckError
from common.pages import charts
from training.input.order import SplitOrder, permutation, reading_order
from training.parallel.world import World

DOCS = Path(__file__).resolve().parents[1] / "docs"
ROWS_PER_GROUP = 512
ROW_GROUPS = (64, 512, 4096)
STREAMS = (1, 8, 64)
WINDOWS = (1, 4, 16, None)
"""None: all row groups."""
BATCH, CLASSES, EPOCHS = 256, 10, 3
BATCHES = (64, 128, 256, 1024)
"""To compare the factor 1 + (B/S - 1)/W with."""
QUANTILES = (5, 25, 50, 75, 95)
PLANNED = 200_000
"""Row groups of the data set whose planning is timed."""

# The light colours of the reports' style sheet: a picture in a page knows nothing of that page's.
PALETTE = {
    "ink": "#1c2430",
    "soft": "#5d6878",
    "line": "#dfe3e9",
    "grid": "#e8ebf0",
    "c1": "#2f6fd0",
    "c2": "#e08a1e",
    "c3": "#2a9d74",
    "c4": "#a6539f",
}

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Mixing:
    """Quality of one way of shuffling: the mean over the epochs of each figure."""

    travel: tuple[float, ...]
    """`QUANTILES` of |position in the epoch − position in the files|, as shares of the rows."""
    apart: float
    """Median distance in the epoch of two rows that are neighbours in the files, as a share of the rows."""
    together: float
    """Frequency with which such neighbours meet in one batch, as a multiple of that under a full permutation."""
    variation: float
    """Total variation distance between the class shares of a batch and of the data written sorted by class, mean."""
    variation_95: float
    """95% of the batches are below."""
    inflation: float
    """Chi-square of a batch's class counts over its degrees of freedom, mean: 1 where all rows are drawn singly."""

    @property
    def independent(self) -> float:
        """Number of rows drawn singly that would mix the classes as well as a batch does."""
        return BATCH / self.inflation


def measure(orders: Iterator[Numbers], batch: int = BATCH) -> Mixing:
    """Measure `orders`: for each epoch the rows, numbered in the order of the files, by position; (N,), int64."""
    epochs = [astuple(_figures(rows, batch)) for rows in orders]
    travel, *others = (np.mean(values, axis=0).tolist() for values in zip(*epochs, strict=True))
    return Mixing(tuple(travel), *others)


def _figures(rows: Numbers, batch: int) -> Mixing:
    count = len(rows)
    position = np.empty(count, dtype=np.int64)
    position[rows] = np.arange(count)
    travel = np.abs(position - np.arange(count)) / count
    together = np.mean(position[1:] // batch == position[:-1] // batch)
    batches = count // batch
    classes = rows[: batches * batch] * CLASSES // count
    cells = np.repeat(np.arange(batches), batch) * CLASSES + classes
    counts = np.bincount(cells, minlength=batches * CLASSES).reshape(batches, CLASSES)
    share = np.bincount(np.arange(count) * CLASSES // count) / count
    variation = np.abs(counts / batch - share).sum(axis=1) / 2
    chi_square = ((counts - batch * share) ** 2 / (batch * share)).sum(axis=1)
    return Mixing(
        tuple(np.percentile(travel, QUANTILES).tolist()),
        float(np.median(np.abs(np.diff(position)))) / count,
        float(together) * (count - 1) / (batch - 1),
        float(variation.mean()),
        float(np.percentile(variation, 95)),
        float(chi_square.mean()) / (CLASSES - 1),
    )


def our_orders(row_groups: int, streams: int, window: int | None) -> Iterator[Numbers]:
    """Yield the rows of each epoch as training reads them."""
    split = SplitOrder((ROWS_PER_GROUP,) * row_groups, streams, window or row_groups, "shuffle quality", 0)
    for epoch in range(EPOCHS):
        group, row = split.epoch(epoch).all_rows().T
        yield group * ROWS_PER_GROUP + row


def full_permutations(row_groups: int) -> Iterator[Numbers]:
    """Yield full permutations, which no reader can afford on a large data set: every row drawn from all that are
    left.
    """
    for epoch in range(EPOCHS):
        yield permutation(row_groups * ROWS_PER_GROUP, "full permutation", epoch)


def measure_all() -> dict[tuple[int, int, int | None] | int, Mixing]:
    """Measure by row groups, streams and window; full permutations by row groups alone."""
    found: dict[tuple[int, int, int | None] | int, Mixing] = {}
    for groups in ROW_GROUPS:
        for streams in STREAMS:
            for window in WINDOWS:
                found[groups, streams, window] = measure(our_orders(groups, streams, window))
        found[groups] = measure(full_permutations(groups))
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def tables(found: dict[tuple[int, int, int | None] | int, Mixing]) -> str:
    """Return a table of the mixing for each number of row groups, and one of the distances, which hardly depend on
    it.
    """
    parts = []
    for groups in ROW_GROUPS:
        mixed, travelled = [], []
        for key, one in found.items():
            if key == groups:
                names = ["", "full permutation"]
            elif isinstance(key, tuple) and key[0] == groups:
                names = [str(key[1]), "all" if key[2] is None else str(key[2])]
            else:
                continue
            mixed.append(
                [
                    *names,
                    f"{one.variation:.3f}",
                    f"{one.variation_95:.3f}",
                    f"{one.inflation:.2f}",
                    f"{one.independent:,.0f}",
                    f"{one.apart:.4f}",
                    f"{one.together:.1f}",
                ]
            )
            travelled.append([*names, *(f"{value:.3f}" for value in one.travel)])
        rows = groups * ROWS_PER_GROUP
        parts += [
            f"### {groups:,} row groups, {rows:,} rows",
            table(
                [
                    "streams",
                    "window",
                    "class mix: distance, mean",
                    "95% below",
                    "χ² / degrees of freedom",
                    "worth so many independent rows",
                    "neighbours: median distance",
                    "in one batch, × full",
                ],
                mixed,
            ),
        ]
        if groups == ROW_GROUPS[1]:
            parts.append(
                "How far rows travel from their place in the files, quantiles, as a share of all rows:"
            )
            parts.append(table(["streams", "window", *(f"{value}%" for value in QUANTILES)], travelled))
    parts += [f"### Batches of other sizes, {ROW_GROUPS[1]} row groups, 64 streams", by_batch()]
    return "\n\n".join(parts)


def by_batch() -> str:
    """Return a table of the class mix of smaller and larger batches, beside the estimate of the rule of thumb."""
    groups, streams, rows = ROW_GROUPS[1], STREAMS[-1], []
    for batch in BATCHES:
        full = measure(full_permutations(groups), batch)
        for window in WINDOWS[:-1]:
            one = measure(our_orders(groups, streams, window), batch)
            rule = 1 + (batch / streams - 1) / (window or groups)
            values = (one.variation, full.variation, one.inflation, rule)
            rows.append([str(batch), str(window), *(f"{value:.3f}" for value in values)])
    head = ["batch", "window", "class mix: distance, mean", "of a full permutation"]
    return table([*head, "χ² / degrees of freedom", "1 + (B/S − 1)/W"], rows)


def figure(found: dict[tuple[int, int, int | None] | int, Mixing], title: str, name: str, label: str) -> str:
    """Return a stand-alone SVG: the figure `name` by window and streams, of the middle number of row groups."""
    groups = ROW_GROUPS[1]
    series = {
        f"{streams} stream{'s' if streams > 1 else ''}": [
            getattr(found[groups, streams, window], name) for window in WINDOWS
        ]
        for streams in STREAMS
    }
    series["full permutation"] = [getattr(found[groups], name)] * len(WINDOWS)
    labels = ["all" if window is None else str(window) for window in WINDOWS]
    svg = charts.bars(title, series, labels, "window, row groups", label)
    svg = re.sub(r"var\(--(\w+)\)", lambda match: PALETTE[match[1]], svg)
    opening, rest = svg.split(">", 1)
    opening = opening.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" width="840" ', 1)
    return f'{opening}>\n<rect width="100%" height="100%" fill="#ffffff"/>{rest}\n'


def write(text: str, found: dict[tuple[int, int, int | None] | int, Mixing]) -> None:
    """Write tables and figures into docs/. Raises CheckError where the page has no place for them."""
    page = DOCS / "shuffling.md"
    before, begin, rest = page.read_text(encoding="utf-8").partition(
        "<!-- tables: benchmarks/shuffle.py -->\n"
    )
    _, end, after = rest.partition("<!-- end of tables -->")
    if not begin or not end:
        raise CheckError(f"{page} has lost the two comments between which the tables stand")
    page.write_text(f"{before}{begin}\n{text}\n\n{end}{after}", encoding="utf-8")
    rows = f"{ROW_GROUPS[1] * ROWS_PER_GROUP:,} rows in {ROW_GROUPS[1]} row groups"
    for file, name, what, label in (
        ("shuffling-classes.svg", "variation", f"Class mix of batches, {rows}", "distance from the whole"),
        ("shuffling-neighbours.svg", "apart", f"Neighbours in the files, {rows}", "median distance, share"),
    ):
        (DOCS / file).write_text(figure(found, what, name, label), encoding="utf-8")


def planning_seconds() -> tuple[float, float]:
    """Time the planning of an epoch's first window, and of all windows of all streams: best of three."""
    split = SplitOrder((ROWS_PER_GROUP,) * PLANNED, 64, 4, "planning", 0)
    first, whole = [], []
    for epoch in range(3):
        began = time.perf_counter()
        plan = reading_order(split.epoch(epoch), World(0, 1))
        next(iter(plan))
        first.append(time.perf_counter() - began)
        for _ in plan:
            pass
        whole.append(time.perf_counter() - began)
    return min(first), min(whole)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="put tables and figures into docs/")
    arguments = parser.parse_args(argv)
    found = measure_all()
    text = tables(found)
    print(text)
    if arguments.write:
        write(text, found)
    first, whole = planning_seconds()
    print(
        f"\nPlanning an epoch of {PLANNED:,} row groups, 64 streams: first window after {1000 * first:.0f} ms, "
        f"all of them {1000 * whole:.0f} ms"
    )
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
