"""Versions of a Delta table from its log, read by the `deltalake` package, without a Spark job."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from common.errors import DataError, UsageError
from common.storage import Storage, absolute, delta_options, is_local
from etl.lake.facts import CommitFacts, Fingerprint

ANSI = re.compile(r"\x1b\[[0-9;]*m")
"""Colours, which the library gives some of its messages."""


def open_table(table_uri: str, options: Storage, version: int | None = None) -> DeltaTable | None:
    """Return a table at its newest or a given version, or None where there is none.

    Raises DataError where its log is damaged, or has no such version.
    """
    try:
        return DeltaTable(table_uri, version=version, storage_options=delta_options(options))
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        if version is not None and (newest := open_table(table_uri, options)) is not None:
            raise DataError(
                f"version {version} of the table {table_uri} cannot be read; its newest is {newest.version()}"
            ) from error
        fault = fault_in_log(table_uri)
        if fault is not None:
            raise DataError(
                f"the log of the table {table_uri} is damaged: {fault}; {_cure(table_uri)}"
            ) from error
        lines = ANSI.sub("", str(error)).replace("↳", "").splitlines() or [""]
        of_system = [line.strip() for line in lines if "(os error" in line]
        if of_system:
            raise DataError(
                f"the table {table_uri} cannot be read: {of_system[-1]}; look at its permissions and at its disk"
            ) from error
        said = lines[0].removeprefix("Kernel error: ").rstrip(". ")
        raise DataError(
            f"the table {table_uri} cannot be read: {said}; if its log is damaged, {_cure(table_uri)}"
        ) from error


def fault_in_log(table_uri: str) -> str | None:
    """Return what is wrong with the files of a local table's log, None where nothing is seen."""
    log = Path(absolute(table_uri), "_delta_log")
    if not is_local(table_uri):
        return None
    files = sorted(file for file in log.glob("*.json") if file.stem.isdecimal())
    expected = int(files[0].stem) if files and any(log.glob("*.checkpoint*.parquet")) else 0
    for file in files:
        if int(file.stem) != expected:
            return f"{expected:020}.json is missing"
        expected += 1
        try:
            for line in file.read_text("utf-8").splitlines():
                json.loads(line)
        except (OSError, ValueError):
            return f"{file.name} cannot be read"
    return None


def drop_stale_checksums(table_uri: str) -> None:
    """Delete Hadoop's checksums of log files that are no more, as where a damaged commit was deleted.

    Spark would take such a checksum for that of the next commit, and refuse to read it.
    """
    if is_local(table_uri):
        for checksum in Path(absolute(table_uri), "_delta_log").glob(".*.crc"):
            if not checksum.with_name(checksum.name[1:-4]).exists():
                checksum.unlink(missing_ok=True)


def _cure(table_uri: str) -> str:
    """Return what to do about a table with a damaged log; published shards and erasures cannot be made anew."""
    restore = "restore its _delta_log from a copy"
    if table_uri.rstrip("/").endswith(("/gold/shards", "/bronze/tombstones")):
        return restore
    return (
        f"{restore}, or delete the folder {table_uri} and run the pipeline again, which makes the table anew"
    )


def file_paths(table: DeltaTable) -> set[str]:
    """Return the paths of the files of a version, relative to the table, not encoded as URIs."""
    return {unquote(path) for path in table.get_add_actions(flatten=True).column("path").to_pylist()}


def row_count(uri: str, options: Storage, version: int | None = None) -> int:
    """Return the rows of a table, 0 where there is none, from its log or else from its files' footers."""
    table = open_table(uri, options, version)
    if table is None:
        return 0
    files = table.get_add_actions(flatten=True)
    known = "num_records" in files.schema.names
    counts: list[int | None] = list(files.column("num_records").to_pylist()) if known else [None]
    rows = [count for count in counts if count is not None]
    return sum(rows) if len(rows) == len(counts) else int(table.to_pyarrow_dataset().count_rows())


def table_exists(uri: str, options: Storage) -> bool:
    return open_table(uri, options) is not None


def newest_commit(table: DeltaTable) -> dict[str, Any] | None:
    """Return the newest entry of a table's history, except commits of VACUUM, which keep its content."""
    for limit in (4, None):
        for commit in table.history(limit):
            if not str(commit.get("operation")).startswith("VACUUM"):
                return commit
    return None


Facts = TypeVar("Facts", bound=CommitFacts)


@dataclass(frozen=True)
class Commit:
    """Newest commit of a table: the id that Delta gave the table when it was created, and the recorded facts."""

    table_id: str
    version: int
    noted: str | None

    @classmethod
    def of(cls, uri: str, options: Storage) -> "Commit | None":
        """Return the newest commit, None where there is no such table.

        Raises DataError where the history has lost everything but commits of VACUUM.
        """
        table = open_table(uri, options)
        if table is None:
            return None
        newest = newest_commit(table)
        if newest is None:
            raise DataError(
                f"the history of the table {table.table_uri} has no commit but those of VACUUM: restore its _delta_log"
            )
        return cls(str(table.metadata().id), int(newest["version"]), newest.get("userMetadata"))

    @classmethod
    def existing(cls, uri: str, options: Storage) -> "Commit":
        """Return the newest commit; raise UsageError naming the table when it does not exist."""
        found = cls.of(uri, options)
        if found is None:
            raise no_such_table(uri)
        return found

    @property
    def identity(self) -> str:
        """Unique name of the content, also where a table was created anew."""
        return self.identity_at(self.version)

    def identity_at(self, version: int) -> str:
        """Return the identity of another version of the table."""
        return f"{self.table_id}@{version}"

    def facts(self, model: type[Facts]) -> Facts | None:
        """Return the facts that a stage recorded, None where something else wrote them."""
        return model.read(self.noted)

    def made_by(self, fingerprint: Fingerprint, model: type[Facts]) -> Facts | None:
        """Return the facts where they have this very fingerprint: then the table is complete."""
        found = self.facts(model)
        return found if found is not None and found.fingerprint == fingerprint else None


def no_such_table(uri: str) -> UsageError:
    """Return the error of a stage whose input is missing."""
    return UsageError(f"there is no table {uri}; run the stages before this one first, or etl/pipeline.py")


def table_version(uri: str, options: Storage) -> int:
    """Return the version of a table's newest content. Raises UsageError naming the table when it does not exist."""
    return Commit.existing(uri, options).version


def identity(uri: str, options: Storage, version: int | None = None) -> str:
    """Return the identity of a version of a table, by default that of its newest content.

    Raises UsageError as above.
    """
    found = Commit.existing(uri, options)
    return found.identity if version is None else found.identity_at(version)


def version_in(identity: str) -> int:
    """Return the version of the table in an identity."""
    return int(identity.rpartition("@")[2])


def facts_at(uri: str, version: int, options: Storage, model: type[Facts]) -> Facts | None:
    """Return the facts in the commit of a version of a table; None where nothing is known of it."""
    return model.read(noted_at(uri, version, options))


def noted_at(uri: str, version: int, options: Storage) -> str | None:
    """Return the `userMetadata` of the commit of a version of a table as it stands; None where there is none."""
    noted = (commit.get("userMetadata") for commit in commits(uri, options) if commit["version"] == version)
    return next(noted, None)


def stages_since(uri: str, version: int, options: Storage) -> set[str]:
    """Return the stages that made the commits after a version; empty names stand for other writers."""
    return {stage_of(commit) for commit in commits(uri, options) if commit["version"] > version}


def commits(uri: str, options: Storage) -> list[dict[str, Any]]:
    """Return the history of a table, newest first; empty where there is none."""
    table = open_table(uri, options)
    return [] if table is None else list(table.history())


def stage_of(commit: Mapping[str, Any]) -> str:
    """Return the stage that made a commit, by its `userMetadata` alone."""
    try:
        noted = json.loads(commit.get("userMetadata") or "")
    except ValueError:
        return ""
    return str(noted.get("stage", "")) if isinstance(noted, dict) else ""
