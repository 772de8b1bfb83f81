"""Judgement of the gates by Great Expectations on the aggregated summary."""

import warnings
from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame

from common import storage
from common.errors import CheckError
from etl.figures.facts import Summary
from etl.gates import data_docs, expectations
from etl.gates.gx_context import context, library
from etl.gates.limits import Gate, Measured, gates, measures
from etl.gates.rejects import explained
from etl.gates.results import GateResult, GateResults
from schemas.config import Configuration
from schemas.tables import Layout


def judge(
    summary: Summary, config: Configuration, layout: Layout, published: DataFrame | None = None
) -> GateResults:
    """Judge the summary; the outcome holds the failures, and the input of the Data Docs.

    `published`: the records that the user's own expectations are about, left out where there are none of these.
    """
    results, validations = validate(summary, config)
    wanted = expectations.declared(config)
    if wanted and published is not None:
        results += expectations.judged(context(), published, wanted)
    results = [explained(gate, config) for gate in results]
    docs = storage.join(layout.quality, "data_docs", data_docs.INDEX)
    return GateResults(results, docs, validations)


def validate(summary: Summary, config: Configuration) -> tuple[list[GateResult], list[Any]]:
    """Return all gates on the tables that `etl.gates.limits` derives from the summary, in the order of `gates`.

    Beside them the library's result and suite of each table.
    """
    every, results, validations = gates(config, summary.rows_per_group), [], []
    for table, rows in measures(summary, config).items():
        of_table = [gate for gate in every if gate.table == table]
        if not of_table:  # of the drifts only those with a limit are judged
            continue
        judged, shown = _validate(table, rows, of_table, config.dataset.name)
        results += judged
        validations += shown
    order = [gate.name for gate in every]
    return sorted(results, key=lambda result: order.index(result.name)), validations


def _validate(
    table: str, rows: Sequence[Measured], of_table: Sequence[Gate], run: str
) -> tuple[list[GateResult], list[Any]]:
    """Validate one table with one suite of expectations; a table without rows passes, for there is nothing to judge."""
    if not rows:
        return [gate.result([], []) for gate in of_table], []
    import pandas as pd

    gx = library()
    suite = gx.ExpectationSuite(
        name=table,
        expectations=[
            gx.expectations.ExpectColumnValuesToBeBetween(
                column=gate.column,
                min_value=gate.minimum,
                max_value=gate.maximum,
                description=f"{gate.name}: {gate.allowed}. When it fails: {gate.remedy}.",
                meta={"gate": gate.name},
            )
            for gate in of_table
        ],
    )
    frame = pd.DataFrame([dict(row) for row in rows])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas' about what the library does with it
        batch = context().data_sources.pandas_default.read_dataframe(frame)
        validation = batch.validate(suite, result_format="COMPLETE")
    validation.meta["run_id"] = gx.RunIdentifier(run_name=run)
    by_gate = {result.expectation_config.meta["gate"]: result for result in validation.results}
    results = []
    for gate in of_table:
        found = by_gate[gate.name]
        if found.exception_info and found.exception_info.get("raised_exception"):
            raise CheckError(
                f"the gate {gate.name!r} could not be checked, so nothing was published: "
                f"{found.exception_info['exception_message']}"
            )
        failing = [rows[index] for index in found.result.get("unexpected_index_list") or []]
        if not found.success and not failing:
            failing = list(rows)  # whatever the reason, a failure never counts as a pass
        results.append(gate.result(rows, failing))
    return results, [(validation, suite)]
