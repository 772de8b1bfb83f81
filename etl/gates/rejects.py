"""The commonest reasons for which records were left out, for the sentence about a gate that fails on them."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from common.wording import printable
from etl.gates.results import FILTERED, QUARANTINED, GateResult
from etl.lake.log import open_table
from etl.lake.tombstones import FORGOTTEN
from etl.rules.personal_data import Mask
from schemas.config import Configuration
from schemas.tables import Layout

OF_COLUMN = "^the column '[^']*'"
"""Beginning of a detail (etl/sources/contract.py) that is about a column: its reason stands once for each column."""
PLACE = ("source_path", "source_position")
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
    mask, which = Mask(config.clean), ""
    if gate.name == QUARANTINED:
        reasons = commonest(_rows(layout.quarantine, config, "reason", ["detail"]), mask)
    else:
        reasons, which = commonest(_rows(layout.fields, config, "filtered_by"), mask), " --filtered"
    rest = f"`python -m etl.quarantine {config.flags()}{which}` shows the rest"
    return replace(gate, remedy="; ".join([*([reasons] if reasons else []), rest, gate.remedy]))


def commonest(batches: Iterator[pa.RecordBatch], mask: Callable[[str], str]) -> str:
    """Return the SHOWN commonest reasons, each with its number of records and the first of them, masked.

    The columns are the reason, `source_path`, `source_position` and, if there is any, `detail`.
    """
    counts: Counter[tuple[str, str]] = Counter()
    firsts: dict[tuple[str, str], Example] = {}
    for batch in batches:
        details = batch.column("detail") if "detail" in batch.schema.names else pa.array([""] * len(batch))
        of_column = pc.struct_field(pc.extract_regex(details, f"(?P<column>{OF_COLUMN})"), "column")
        rows = pa.table(
            [batch.column(0), pc.fill_null(of_column, ""), *map(batch.column, PLACE), details],
            ["reason", "column", *PLACE, "detail"],
        ).sort_by([(name, "ascending") for name in PLACE])
        firsts_of = [(name, "first") for name in (*PLACE, "detail")]
        grouped = rows.group_by(["reason", "column"], use_threads=False).aggregate(
            [*firsts_of, ([], "count_all")]
        )
        for row in grouped.to_pylist():
            key = row["reason"], row["column"]
            if key[0] is None or key[0] == FORGOTTEN:
                continue
            counts[key] += row["count_all"]
            path, position, detail = (row[f"{name}_first"] for name in (*PLACE, "detail"))
            example = Example(path, position or 0, detail or "")
            firsts[key] = min(firsts.get(key, example), example)
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
    return ", ".join(f"{count:,} {key[0]} ({_shown(firsts[key], mask)})" for key, count in most)


def _shown(example: Example, mask: Callable[[str], str]) -> str:
    detail = f": {mask(example.detail)}" if example.detail else ""
    return printable(f"{mask(example.path)} at {example.position:,}{detail}")


def _rows(
    uri: str, config: Configuration, reason: str, columns: Sequence[str] = ()
) -> Iterator[pa.RecordBatch]:
    table = open_table(uri, config.storage)
    if table is None:
        return
    named = [reason, *PLACE, *columns]
    yield from table.to_pyarrow_dataset().to_batches(columns=named)
