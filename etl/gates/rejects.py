"""The commonest reasons for which records were left out, for the sentence about a gate that fails on them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from etl.gates.results import FILTERED, QUARANTINED, GateResult
from etl.lake.log import open_table
from etl.lake.tombstones import FORGOTTEN
from schemas.config import Configuration
from schemas.tables import Layout

SHOWN = 3
"""Reasons in a sentence."""


class Example(NamedTuple):
    """The first record of a reason, by the path of its file and its position there."""

    path: str
    position: int
    detail: str


def explained(gate: GateResult, config: Configuration) -> GateResult:
    """Return a failed gate about rejected records with their commonest reasons; any other as it is."""
    layout = Layout.of(config)
    if gate.passed or gate.name not in (QUARANTINED, FILTERED):
        return gate
    if gate.name == QUARANTINED:
        reasons = commonest(_rows(layout.quarantine, config, "reason", ["detail"]))
        rest = f"`python -m etl.quarantine {config.flags()}` shows the rest"
    else:
        reasons = commonest(_rows(layout.fields, config, "filtered_by"))
        rest = f"the report, {layout.quality}/report.html, shows what each rule did"
    return replace(gate, remedy="; ".join([*([reasons] if reasons else []), rest, gate.remedy]))


def commonest(batches: Iterator[pa.RecordBatch]) -> str:
    """Return the SHOWN commonest reasons, each with its number of records and the first of them.

    The columns are the reason, `source_path`, `source_position` and, if there is any, `detail`.
    """
    counts: Counter[str] = Counter()
    firsts: dict[str, Example] = {}
    for batch in batches:
        for reason, count in zip(
            *map(pa.Array.to_pylist, pc.value_counts(batch.column(0)).flatten()), strict=True
        ):
            if reason is None or reason == FORGOTTEN:
                continue
            counts[reason] += count
            of_reason = batch.filter(pc.equal(batch.column(0), reason))
            first = pc.sort_indices(
                of_reason, [("source_path", "ascending"), ("source_position", "ascending")]
            )[:1]
            (row,) = of_reason.take(first).to_pylist()
            example = Example(row["source_path"], row["source_position"] or 0, row.get("detail") or "")
            firsts[reason] = min(firsts.get(reason, example), example)
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
    return ", ".join(f"{count:,} {reason} ({_shown(firsts[reason])})" for reason, count in most)


def _shown(example: Example) -> str:
    path = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in example.path)
    return f"{path} at {example.position:,}" + (f": {example.detail}" if example.detail else "")


def _rows(
    uri: str, config: Configuration, reason: str, columns: Sequence[str] = ()
) -> Iterator[pa.RecordBatch]:
    table = open_table(uri, config.storage)
    if table is None:
        return
    named = [reason, "source_path", "source_position", *columns]
    yield from table.to_pyarrow_dataset().to_batches(columns=named)
