"""The last run that came through `split`: what `deduplicate` and `split` go on from with new records.

silver/ledger, which is written last and as a whole, says which versions of the other tables belong to it. So an
increment that broke off changes nothing about where the next one begins.
"""

from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession

from etl.lake.facts import ClustersFacts, CommitFacts, LedgerFacts
from etl.lake.log import Commit, facts_at, version_in
from etl.runs.completion import fingerprint
from etl.runs.increments import added_rows
from schemas.config import Configuration
from schemas.tables import Layout


@dataclass(frozen=True)
class FinishedRun:
    """silver/ledger with every record's status, cluster and split, and the tables that it was made from."""

    version: int
    ledger: LedgerFacts
    clusters: ClustersFacts
    tables: dict[str, str]
    """Identities by name: fields, clusters, signatures."""


def finished_run(config: Configuration) -> FinishedRun | None:
    """The run that silver/ledger is of, whatever its configuration; None where it is of no whole run."""
    layout = Layout.of(config)
    commit = Commit.of(layout.ledger, config.storage)
    ledger = None if commit is None else commit.facts(LedgerFacts)
    if commit is None or ledger is None or ledger.stage != "split":
        return None
    fields, of_clusters = ledger.fingerprint.inputs.get("fields"), ledger.fingerprint.inputs.get("clusters")
    if fields is None or of_clusters is None:
        return None
    clusters = facts_at(layout.clusters, version_in(of_clusters), config.storage, ClustersFacts)
    if clusters is None:
        return None
    tables = {"fields": fields, "clusters": of_clusters, "signatures": clusters.signatures}
    return FinishedRun(commit.version, ledger, clusters, tables)


def run_to_go_on_from(config: Configuration) -> FinishedRun | None:
    """The same, where it was made by today's configuration and code; None also where all is to be made anew."""
    found = finished_run(config) if config.increments.go_on else None
    if found is None or not is_as_today("split", config, found.ledger):
        return None
    return found if is_as_today("deduplicate", config, found.clusters) else None


def is_as_today(stage: str, config: Configuration, facts: CommitFacts) -> bool:
    """Whether a stage would do today what it did then, from the same inputs."""
    return fingerprint(stage, config).differs_only_in(facts.fingerprint, *facts.fingerprint.inputs)


def new_fields(spark: SparkSession, config: Configuration, run: FinishedRun, fields: str) -> DataFrame | None:
    """The rows that silver/fields has had added since a run; None where any were taken away."""
    return added_rows(spark, Layout.of(config).fields, run.tables["fields"], fields, config.storage)
