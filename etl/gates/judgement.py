"""The gates judged by Great Expectations on the aggregated summary."""

import warnings
from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame

from common import storage
from common.errors import CheckError
from etl.figures.facts import Summary
from etl.gates import data_docs, expectations
from etl.gates.gx_context import library, new_context
from etl.gates.limits import Gate, Measured, gates, measures
from etl.gates.results import GateResult, GateResults
from schemas.config import Configuration
from schemas.tables import Layout


def check(
    summary: Summary, config: Configuration, layout: Layout, published: DataFrame | None = None
) -> GateResults:
    """Judges the summary, writes the Data Docs, and raises QualityGateError when a gate fails."""
    results = judge(summary, config, layout, published)
    results.raise_for_failures()
    return results


def judge(
    summary: Summary, config: Configuration, layout: Layout, published: DataFrame | None = None
) -> GateResults:
    """As `check`, but returns the failures instead of raising.

    `published`: the records that the user's own expectations are about, left out where there are none of these.
    """
    with data_docs.site(storage.join(layout.quality, "data_docs"), config.storage) as site:
        context = new_context(str(site.folder))
        results = validate(context, summary, config)
        wanted = expectations.declared(config)
        if wanted and published is not None:
            results += expectations.judged(context, published, wanted)
        context.build_data_docs(site_names=["quality"])
    return GateResults(results, site.index)


def validate(context: Any, summary: Summary, config: Configuration) -> list[GateResult]:
    """All gates on the tables that `etl.gates.limits` derives from the summary, in the order of `gates`."""
    every, results = gates(config, summary.rows_per_group), []
    for table, rows in measures(summary, config).items():
        of_table = [gate for gate in every if gate.table == table]
        if not of_table:  # of what moved since the version before, only what has a limit is judged
            continue
        results += _validate(context, table, rows, of_table, config.dataset.name)
    order = [gate.name for gate in every]
    return sorted(results, key=lambda result: order.index(result.name))


def _validate(
    context: Any, table: str, rows: Sequence[Measured], of_table: Sequence[Gate], run: str
) -> list[GateResult]:
    """One suite of expectations on one table; a table without rows passes, for there is nothing to judge."""
    if not rows:
        return [gate.result([], []) for gate in of_table]
    import pandas as pd

    gx = library()
    frame = pd.DataFrame([dict(row) for row in rows])
    suite = context.suites.add(gx.ExpectationSuite(name=table))
    for gate in of_table:
        suite.add_expectation(
            gx.expectations.ExpectColumnValuesToBeBetween(
                column=gate.column,
                min_value=gate.minimum,
                max_value=gate.maximum,
                description=f"{gate.name}: {gate.allowed}. When it fails: {gate.remedy}.",
                meta={"gate": gate.name},
            )
        )
    source = context.data_sources.add_pandas(table)
    batch = source.add_dataframe_asset(table).add_batch_definition_whole_dataframe("summary")
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=table, data=batch, suite=suite)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas' about what the library does with it
        validation = definition.run(
            batch_parameters={"dataframe": frame},
            result_format="COMPLETE",
            run_id=gx.RunIdentifier(run_name=run),
        )
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
            failing = list(rows)  # whatever the reason, a failure is never taken for a pass
        results.append(gate.result(rows, failing))
    return results
