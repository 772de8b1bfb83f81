"""The last run that came through `split`: what `deduplicate` and `split` go on from with new records.

silver/ledger, which is written last and as a whole, says which versions of the other tables belong to it. So an
increment that broke off changes nothing about where the next one begins.
"""

from dataclasses import dataclass

from etl.lake.facts import ClustersFacts, CommitFacts, LedgerFacts
from etl.lake.log import facts_at, version_in
from etl.runs.completion import fingerprint
from etl.runs.run import DataSet
from schemas.config import Configuration


@dataclass(frozen=True)
class FinishedRun:
    """silver/ledger with every record's status, cluster and split, and the tables that it was made from."""

    version: int
    ledger: LedgerFacts
    clusters: ClustersFacts
    tables: dict[str, str]
    """Identities by name: fields, clusters, signatures."""


def finished_run(data: DataSet) -> FinishedRun | None:
    """The run that silver/ledger is of, whatever its configuration; None where it is of no whole run."""
    commit = data.commit("ledger")
    ledger = None if commit is None else commit.facts(LedgerFacts)
    if commit is None or ledger is None or ledger.stage != "split":
        return None
    fields, of_clusters = ledger.fingerprint.inputs.get("fields"), ledger.fingerprint.inputs.get("clusters")
    if fields is None or of_clusters is None:
        return None
    clusters = facts_at(data.uri("clusters"), version_in(of_clusters), data.config.storage, ClustersFacts)
    if clusters is None:
        return None
    tables = {"fields": fields, "clusters": of_clusters, "signatures": clusters.signatures}
    return FinishedRun(commit.version, ledger, clusters, tables)


def run_to_go_on_from(data: DataSet) -> FinishedRun | None:
    """The same, where it was made by today's configuration and code; None also where all is to be made anew."""
    found = finished_run(data) if data.config.increments.go_on else None
    if found is None or not is_as_today("split", data.config, found.ledger):
        return None
    return found if is_as_today("deduplicate", data.config, found.clusters) else None


def is_as_today(stage: str, config: Configuration, facts: CommitFacts) -> bool:
    """Whether a stage would do today what it did then, from the same inputs."""
    return fingerprint(stage, config).differs_only_in(facts.fingerprint, *facts.fingerprint.inputs)
