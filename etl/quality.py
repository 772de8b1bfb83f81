"""The quality gates, as Great Expectations on the aggregated summary, and its Data Docs.

A gate that fails stops the publication: `check` raises QualityGateError, exit status 3. The Data Docs are written
before that, so that a failed attempt can be looked at.
"""

import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from etl.reporting import data_docs
from etl.reporting.facts import Summary
from etl.reporting.gates import Gate, Measured, gates, measures, quarantine_gate, quarantine_row
from schemas import storage
from schemas.command import configuration_parser, run
from schemas.config import Configuration, load
from schemas.errors import CheckError, QualityGateError
from schemas.progress import say
from schemas.tables import Layout


@dataclass(frozen=True)
class GateResult:
    """One gate: how many rows were judged, the worst value as it was observed, and whether it passed."""

    name: str
    observed: str
    allowed: str
    passed: bool
    failures: list[str]
    """One clause for each row that fails."""
    remedy: str


@dataclass(frozen=True)
class GateResults:
    """All gates of one attempt to publish, and where their Data Docs lie."""

    gates: list[GateResult]
    data_docs: str

    @property
    def passed(self) -> bool:
        return all(gate.passed for gate in self.gates)

    def raise_for_failures(self) -> None:
        """Raises QualityGateError with a sentence for each failed gate; does nothing when all passed."""
        sentences = [sentence_of(gate) for gate in self.gates if not gate.passed]
        if sentences:
            count = "a quality gate" if len(sentences) == 1 else f"{len(sentences)} quality gates"
            raise QualityGateError(
                f"{count} failed and nothing was published: {'; '.join(sentences)}; details: {self.data_docs}"
            )


def sentence_of(gate: GateResult) -> str:
    """What failed, what is allowed and what to do, for a person."""
    shown, more = gate.failures[:3], len(gate.failures) - 3
    observed = ", ".join(shown) + (f" and {more:,} more like that" if more > 0 else "")
    return f"{observed}, allowed: {gate.allowed}: {gate.remedy}"


def check_quarantine(records_in: int, quarantined: int, config: Configuration) -> None:
    """The first gate alone, for right after `ingest`, before hours of work. Raises QualityGateError."""
    gate = quarantine_gate(config)
    row = quarantine_row(records_in, quarantined)
    if gate.maximum is not None and row[gate.column] > gate.maximum:
        result = _result(gate, [row], [row])
        raise QualityGateError(f"a quality gate failed after ingest: {sentence_of(result)}")


def check(summary: Summary, config: Configuration, layout: Layout) -> GateResults:
    """Judges the summary, writes the Data Docs, and raises QualityGateError when a gate fails."""
    results = judge(summary, config, layout)
    results.raise_for_failures()
    return results


def judge(summary: Summary, config: Configuration, layout: Layout) -> GateResults:
    """As `check`, but returns the failures instead of raising."""
    with data_docs.site(storage.join(layout.quality, "data_docs"), config.storage) as site:
        context = new_context(str(site.folder))
        results = validate(context, summary, config)
        context.build_data_docs(site_names=["quality"])
    return GateResults(results, site.index)


def validate(context: Any, summary: Summary, config: Configuration) -> list[GateResult]:
    """All gates on the tables that `etl.reporting.gates` derives from the summary, in the order of `gates`."""
    every, results = gates(config, summary.rows_per_group), []
    for table, rows in measures(summary, config).items():
        of_table = [gate for gate in every if gate.table == table]
        if not of_table:  # of what moved since the version before, only what has a limit is judged
            continue
        results += _validate(context, table, rows, of_table, config.dataset.name)
    order = [gate.name for gate in every]
    return sorted(results, key=lambda result: order.index(result.name))


def _great_expectations() -> Any:
    """The library, imported on first use (it takes seconds) and with its usage reports off."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        import great_expectations
    return great_expectations


def new_context(folder: str) -> Any:
    """A context in memory, without progress bars, whose only site is `folder`."""
    gx = _great_expectations()
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    for name in list(context.get_site_names()):
        context.delete_data_docs_site(name)
    context.add_data_docs_site(
        site_name="quality",
        site_config={
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": folder},
        },
    )
    return context


def _validate(
    context: Any, table: str, rows: Sequence[Measured], of_table: Sequence[Gate], run: str
) -> list[GateResult]:
    """One suite of expectations on one table; a table without rows passes, for there is nothing to judge."""
    if not rows:
        return [_result(gate, [], []) for gate in of_table]
    import pandas as pd

    gx = _great_expectations()
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
        results.append(_result(gate, rows, failing))
    return results


def _result(gate: Gate, rows: Sequence[Measured], failing: Sequence[Measured]) -> GateResult:
    values = [row[gate.column] for row in failing or rows]
    worst = (min if gate.maximum is None else max)(values) if values else None
    return GateResult(
        name=gate.name,
        observed="nothing to judge" if worst is None else gate.shown(worst),
        allowed=gate.allowed,
        passed=not failing,
        failures=[gate.said(row) for row in failing],
        remedy=gate.remedy,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Judges the newest published version by the gates of the configuration, and writes Data Docs and report.

    Raises QualityGateError when a gate fails: exit status 3.
    """
    from etl.report import judge_again  # which imports this module

    arguments = configuration_parser("python -m etl.quality", __doc__).parse_args(argv)
    gates = judge_again(load(arguments.config, arguments.overrides))
    gates.raise_for_failures()
    say(f"quality: all {len(gates.gates)} gates passed")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
