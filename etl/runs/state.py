"""silver/ledger on its way through the stages: what it was made from, and what an increment goes on from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from etl.lake.log import Commit, facts_at
from etl.runs.completion import made_from
from etl.runs.increments import added_rows
from schemas.config import Configuration
from schemas.tables import Layout


def fields_basis(stage: str, config: Configuration, fields: str) -> dict[str, object]:
    """Of what `clean`, `deduplicate` and `split` write into silver/ledger one after the other."""
    return made_from(stage, config, fields=fields)


def deduplicated_from(ledger: Mapping[str, Any]) -> object:
    """What `deduplicate` made a ledger from, by the facts of its newest commit; `split` hands that on."""
    if ledger.get("stage") == "split":
        return ledger.get("deduplicated")
    return ledger.get("made_from") if ledger.get("stage") == "deduplicate" else None


def ledger_before_encode(config: Configuration) -> tuple[int, str]:
    """The version of silver/ledger that `split` left, and its identity.

    Where `encode` has left out outliers since, its commit names it.
    """
    ledger = Commit.existing(Layout.of(config).ledger, config.storage)
    version = ledger.facts.get(BEFORE_ENCODE, ledger.version)
    return version, ledger.identity_at(version)


BEFORE_ENCODE = "before_encode"
"""What `encode` notes in the ledger beside all that `split` noted: the version that `split` left."""


@dataclass(frozen=True)
class FinishedLedger:
    """The version of silver/ledger in which every record has its status, cluster and split."""

    version: int
    identity: str
    facts: Mapping[str, Any]
    signatures: str
    """The identity of silver/signatures that belongs to it."""

    def as_dict(self) -> dict[str, object]:
        """For a commit's facts."""
        return {
            "version": self.version,
            "ledger": self.identity,
            "facts": dict(self.facts),
            "signatures": self.signatures,
        }


def ledger_to_go_on_from(config: Configuration) -> FinishedLedger | None:
    """That of the last run that came through `split`, where the configuration of the stages up to there is the same.

    None where there is none. Where a run that went on from it broke off, its commit names it.
    """
    layout = Layout.of(config)
    ledger = Commit.of(layout.ledger, config.storage)
    if not config.increments.go_on or ledger is None:
        return None
    facts, version = ledger.facts, ledger.version
    standing = Commit.of(layout.signatures, config.storage)
    signatures = "" if standing is None else standing.identity
    if isinstance(facts.get("after"), dict) and facts.get("stage") != "split":
        after = facts["after"]
        facts, version, signatures = after["facts"], after["version"], after["signatures"]
    elif BEFORE_ENCODE in facts:  # `encode` leaves out outliers anew, by a fit on all records
        version = int(facts[BEFORE_ENCODE])
    if facts.get("stage") != "split":
        return None
    if not is_finished(facts, config):
        return None
    found = facts_at(layout.signatures, int(signatures.rpartition("@")[2] or -1), config.storage)
    if found.get("made_from") != deduplicated_from(facts):
        return None
    return FinishedLedger(version, ledger.identity_at(version), facts, signatures)


def is_finished(facts: Mapping[str, Any], config: Configuration) -> bool:
    """Whether a ledger with these facts came through `split` with the configuration of today."""
    fields = facts.get("made_from", {}).get("fields")
    return facts.get("made_from") == fields_basis("split", config, fields) and (
        deduplicated_from(facts) == fields_basis("deduplicate", config, fields)
    )


def goes_on_from(
    spark: SparkSession, config: Configuration, ledger: Mapping[str, Any], fields: str
) -> tuple[Mapping[str, Any], DataFrame] | None:
    """What an increment's ledger notes of the run before, and the rows that silver/fields has had added since.

    `ledger`: the facts of its newest commit. None where everything is to be made anew.
    """
    after = ledger.get("after")
    if after is None or not config.increments.go_on or not is_finished(after["facts"], config):
        return None
    known = after["facts"]["made_from"]["fields"]
    new = added_rows(spark, Layout.of(config).fields, known, fields, config.storage)
    return None if new is None else (after, new)
