"""What the log of a Delta table says of its versions, read by the `deltalake` package, without a Spark job."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from common.errors import DataError, UsageError
from common.storage import Storage, delta_options


def open_table(table_uri: str, options: Storage, version: int | None = None) -> DeltaTable | None:
    """A table at its newest or a given version, or None where there is none."""
    try:
        return DeltaTable(table_uri, version=version, storage_options=delta_options(options))
    except TableNotFoundError:
        return None


def table_exists(uri: str, options: Storage) -> bool:
    return open_table(uri, options) is not None


def newest_commit(table: DeltaTable) -> dict[str, Any] | None:
    """The newest entry of a table's history, but for the commits of VACUUM, which change nothing about its content."""
    for limit in (4, None):
        for commit in table.history(limit):
            if not str(commit.get("operation")).startswith("VACUUM"):
                return commit
    return None


def noted_in(commit: Mapping[str, Any]) -> dict[str, Any]:
    """The `userMetadata` of a commit, where it is a JSON object."""
    try:
        facts = json.loads(commit.get("userMetadata") or "{}")
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


@dataclass(frozen=True)
class Commit:
    """The newest commit of a table.

    `table_id` is what Delta gave the table when it was made, `facts` what was noted in the commit (etl/lake/tables.py;
    nothing where something else wrote it).
    """

    table_id: str
    version: int
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, uri: str, options: Storage) -> "Commit | None":
        """None where there is no such table. Raises DataError where its history has lost all but commits of VACUUM."""
        table = open_table(uri, options)
        if table is None:
            return None
        newest = newest_commit(table)
        if newest is None:
            raise DataError(
                f"the history of the table {table.table_uri} has no commit but those of VACUUM: restore its _delta_log"
            )
        return cls(str(table.metadata().id), int(newest["version"]), noted_in(newest))

    @classmethod
    def existing(cls, uri: str, options: Storage) -> "Commit":
        """The same; raises UsageError naming the table when it does not exist."""
        found = cls.of(uri, options)
        if found is None:
            raise UsageError(
                f"there is no table {uri}; run the stages before this one first, or etl/pipeline.py"
            )
        return found

    @property
    def identity(self) -> str:
        """That of no other content, also where a table was made anew."""
        return self.identity_at(self.version)

    def identity_at(self, version: int) -> str:
        """The same of another version of the table."""
        return f"{self.table_id}@{version}"

    def is_by(self, stage: str, basis: Mapping[str, object]) -> bool:
        """Whether a stage wrote it, from just this."""
        return self.facts.get("stage") == stage and self.facts.get("made_from") == basis


def table_version(uri: str, options: Storage) -> int:
    """The version of a table's newest content. Raises UsageError naming the table when it does not exist."""
    return Commit.existing(uri, options).version


def commit_facts(uri: str, options: Storage) -> Mapping[str, Any]:
    """What was noted in the newest commit of a table. Raises UsageError as above."""
    return Commit.existing(uri, options).facts


def identity(uri: str, options: Storage, version: int | None = None) -> str:
    """Of a version of a table, by default that of its newest content. Raises UsageError as above."""
    found = Commit.existing(uri, options)
    return found.identity if version is None else found.identity_at(version)


def facts_at(uri: str, version: int, options: Storage) -> dict[str, Any]:
    """What the commit of a version of a table noted; empty where nothing is known of it."""
    table = open_table(uri, options)
    commits = table.history() if table is not None else []
    return next((noted_in(commit) for commit in commits if commit["version"] == version), {})


def stages_since(uri: str, version: int, options: Storage) -> set[str]:
    """The stages that made the commits after a version; empty names stand for commits of something else."""
    table = open_table(uri, options)
    commits = table.history() if table is not None else []
    return {str(noted_in(commit).get("stage", "")) for commit in commits if commit["version"] > version}
