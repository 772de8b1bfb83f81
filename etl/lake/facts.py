"""Facts that stages record in the commits of their tables: one model a table, never a loose dictionary.

A commit that does not match the model of its table (another program's, another version's) counts for nothing: the
stage that writes the table runs again.
"""

import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from schemas.config import Configuration


class Fingerprint(BaseModel):
    """All inputs of a stage's result; where a new run would have the same ones, the stage is complete."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    configuration: str
    """SHA-256 of the part of the configuration that determines the rows, including the stages before."""
    code: str
    """SHA-256 of the modules that the stage imports."""
    inputs: dict[str, str | None]
    """Identities of tables and hashes of other inputs, by name."""

    def differs_only_in(self, other: "Fingerprint", *names: str) -> bool:
        """Return True where the two are equal except for these inputs."""
        mine, others = (
            (found.configuration, found.code, {k: v for k, v in found.inputs.items() if k not in names})
            for found in (self, other)
        )
        return mine == others


class CommitFacts(BaseModel):
    """Facts of every stage: bronze/sources, bronze/quarantine, silver/fields and silver/signatures have no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    configuration_sha256: str
    """Hash of the whole configuration of the run."""
    fingerprint: Fingerprint

    @classmethod
    def by(cls, stage: str, config: Configuration, fingerprint: Fingerprint, **facts: Any) -> Self:
        """Return the facts of a stage that runs with a configuration."""
        return cls(stage=stage, configuration_sha256=config.sha256(), fingerprint=fingerprint, **facts)

    @classmethod
    def read(cls, noted: str | None) -> Self | None:
        """Parse the `userMetadata` of a commit; return None where it holds something else."""
        try:
            return cls.model_validate_json(noted or "", strict=True)
        except ValueError:
            return None

    def with_identities(self, replaced: Mapping[str, str]) -> Self:
        """Return the facts with new identities of some tables."""
        return type(self).model_validate(_replaced(self.model_dump(), replaced))

    def to_json(self) -> str:
        """Return the `userMetadata` of a commit."""
        return json.dumps(self.model_dump(), sort_keys=True)


class RecordsFacts(CommitFacts):
    """bronze/records."""

    tables: dict[str, str]
    """Identities of the bronze/sources and bronze/quarantine that belong to it."""
    counts: dict[str, int]
    failed: int
    """Files that a system error made unreadable: these are tried again."""


class ClustersFacts(CommitFacts):
    """silver/clusters."""

    signatures: str
    """Identity of the silver/signatures that belongs to it."""
    conflicts: int
    """Records that would be kept under other splits: they belong to clusters in several splits."""


class LedgerFacts(CommitFacts):
    """silver/ledger; its stage is `forget` where records were erased and the other records keep their splits."""

    conflicts: int
    """Records that are left out because of other records' splits."""


class EncodedFacts(CommitFacts):
    """silver/encoded."""

    artifacts: dict[str, str]
    """SHA-256 of the artifacts that the rows were made with, by feature, and `classes`."""


FACTS: dict[str, type[CommitFacts]] = {
    "sources": CommitFacts,
    "quarantine": CommitFacts,
    "records": RecordsFacts,
    "fields": CommitFacts,
    "signatures": CommitFacts,
    "clusters": ClustersFacts,
    "ledger": LedgerFacts,
    "encoded": EncodedFacts,
}
"""Model of each table."""


def _replaced(value: Any, replaced: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(inner, replaced) for name, inner in value.items()}
    return replaced.get(value, value) if isinstance(value, str) else value
