"""What stages note in the commits of their tables: one model a table, never a loose dictionary.

A commit that cannot be read as the model of its table (another program's, another version's) says nothing: the stage
that writes the table runs anew.
"""

import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from schemas.config import Configuration


class Fingerprint(BaseModel):
    """Everything that a stage's result follows from; where a new run would have the same one, the stage is complete."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    configuration: str
    """SHA-256 of the part of the configuration that decides about the rows, stages before included."""
    code: str
    """SHA-256 of the modules that the stage imports."""
    inputs: dict[str, str | None]
    """Identities of tables and hashes of what else is read, by name."""

    def differs_only_in(self, other: "Fingerprint", *names: str) -> bool:
        """Whether the two are the same but for these inputs."""
        mine, others = (
            (found.configuration, found.code, {k: v for k, v in found.inputs.items() if k not in names})
            for found in (self, other)
        )
        return mine == others


class CommitFacts(BaseModel):
    """What every stage notes: bronze/sources, bronze/quarantine, silver/fields and silver/signatures hold no more."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    configuration_sha256: str
    """Of the whole configuration of the run."""
    fingerprint: Fingerprint

    @classmethod
    def by(cls, stage: str, config: Configuration, fingerprint: Fingerprint, **facts: Any) -> Self:
        """The facts of a stage that runs with a configuration."""
        return cls(stage=stage, configuration_sha256=config.sha256(), fingerprint=fingerprint, **facts)

    @classmethod
    def read(cls, noted: str | None) -> Self | None:
        """From the `userMetadata` of a commit; None where it holds something else."""
        try:
            return cls.model_validate_json(noted or "", strict=True)
        except ValueError:
            return None

    def with_identities(self, replaced: Mapping[str, str]) -> Self:
        """The same with new identities of tables in the place of those that they had."""
        return type(self).model_validate(_replaced(self.model_dump(), replaced))

    def to_json(self) -> str:
        """For the `userMetadata` of a commit."""
        return json.dumps(self.model_dump(), sort_keys=True)


class RecordsFacts(CommitFacts):
    """bronze/records."""

    tables: dict[str, str]
    """The identities of bronze/sources and bronze/quarantine that belong to it."""
    counts: dict[str, int]
    failed: int
    """Files that the system kept from being read: these are tried again."""


class ClustersFacts(CommitFacts):
    """silver/clusters."""

    signatures: str
    """The identity of silver/signatures that belongs to it."""
    conflicts: int
    """Records that would be kept with other splits: they belong to clusters that lie in several."""


class LedgerFacts(CommitFacts):
    """silver/ledger; its stage is `forget` where records were erased and the splits of the others are to stay."""

    conflicts: int
    """Records that the splits of others keep out."""


class EncodedFacts(CommitFacts):
    """silver/encoded."""

    artifacts: dict[str, str]
    """SHA-256 of what the rows were made with, by feature, and `classes`."""


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
"""The model of each table."""


def _replaced(value: Any, replaced: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(inner, replaced) for name, inner in value.items()}
    return replaced.get(value, value) if isinstance(value, str) else value
