"""Last run that completed `split`, from which `deduplicate` and `split` continue with new records.

silver/ledger, which is written last, names the versions of the other tables that belong to it. So an interrupted
increment changes nothing about where the next one begins.
"""

from dataclasses import dataclass

from etl.lake.facts import ClustersFacts, CommitFacts, LedgerFacts
from etl.lake.log import facts_at, version_in
from etl.runs.completion import fingerprint
from etl.runs.run import Tables
from schemas.config import Configuration


@dataclass(frozen=True)
class FinishedRun:
    """silver/ledger with every record's status, cluster and split, and its input tables."""

    version: int
    ledger: LedgerFacts
    clusters: ClustersFacts
    tables: dict[str, str]
    """Identities by name: fields, clusters, signatures."""


def finished_run(data: Tables) -> FinishedRun | None:
    """Return the run behind silver/ledger, whatever its configuration; None where it belongs to no whole run."""
    commit = data.commit("ledger")
    ledger = None if commit is None else commit.facts(LedgerFacts)
    if commit is None or ledger is None or ledger.stage != "split":
        return None
    fields, of_clusters = ledger.fingerprint.inputs.get("fields"), ledger.fingerprint.inputs.get("clusters")
    if fields is None or of_clusters is None:
        return None
    clusters = facts_at(data.uri("clusters"), version_in(of_clusters), data.config.storage, ClustersFacts)
    # Stages started by hand can come in any order: clusters of other records would pass for those of these.
    if clusters is None or clusters.fingerprint.inputs.get("fields") != fields:
        return None
    tables = {"fields": fields, "clusters": of_clusters, "signatures": clusters.signatures}
    return FinishedRun(commit.version, ledger, clusters, tables)


def run_to_go_on_from(data: Tables) -> FinishedRun | None:
    """Return the run behind silver/ledger where today's configuration and code made it; None for a full rebuild."""
    found = finished_run(data) if data.config.increments.go_on else None
    if found is None or not is_as_today("split", data.config, found.ledger):
        return None
    return found if is_as_today("deduplicate", data.config, found.clusters) else None


def is_as_today(stage: str, config: Configuration, facts: CommitFacts) -> bool:
    """Return True where a stage would do the same today, from the same inputs."""
    return fingerprint(stage, config).differs_only_in(facts.fingerprint, *facts.fingerprint.inputs)
