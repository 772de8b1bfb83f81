"""Gold's commits, through the `deltalake` package alone: one atomic version that holds exactly the given files."""

import json
import time
from collections.abc import Sequence

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, create_table_with_add_actions

from common.errors import CheckError, DataError
from common.storage import Storage, delta_options
from etl.lake.log import newest_commit, open_table
from etl.publication.shards import SPARK_PARTITION_COLUMN, WrittenShard
from schemas.manifest import Manifest

ROOT_KEY = "ringlake.manifest_root"
TABLE_PROPERTIES = {
    "delta.enableDeletionVectors": "false",
    "delta.columnMapping.mode": "none",
    "delta.enableExpiredLogCleanup": "false",
}


def committed_root(table: DeltaTable) -> str | None:
    """Return the manifest root of the table's content: that of its newest commit."""
    return committed(table)[1]


def committed(table: DeltaTable) -> tuple[int, str | None]:
    """Return the version and manifest root of the newest commit that decided which files the table holds.

    VACUUM adds commits of its own, which change nothing about that.
    """
    newest = newest_commit(table)
    return (table.version(), None) if newest is None else (int(newest["version"]), newest.get(ROOT_KEY))


def commit(
    shards: Sequence[WrittenShard], schema: pa.Schema, manifest_root: str, table_uri: str, options: Storage
) -> tuple[int, bool]:
    """Make `shards` the content of the table; return the version, and whether it is a new one.

    A version whose commit already carries this root is left as it is: a rerun after a crash between commit and
    manifest completes that version. There are no retries: of two concurrent publications one fails with a DataError.
    """
    table = open_table(table_uri, options)
    if table is not None and committed_root(table) == manifest_root:
        listed = sorted(table.get_add_actions(flatten=True).column("path").to_pylist())
        if listed != sorted(shard.path for shard in shards):
            raise CheckError(
                f"version {table.version()} of {table_uri} carries this root but lists other files"
            )
        return committed(table)[0], False
    now = int(time.time() * 1000)
    actions = [
        AddAction(
            path=shard.path,
            size=shard.bytes,
            partition_values={SPARK_PARTITION_COLUMN: shard.split},
            modification_time=now,
            data_change=True,
            stats=json.dumps({"numRecords": shard.rows}),
        )
        for shard in shards
    ]
    properties = _properties(manifest_root)
    delta_schema = Schema.from_arrow(
        schema.append(pa.field(SPARK_PARTITION_COLUMN, pa.string())).remove_metadata()
    )
    try:
        if table is None:
            create_table_with_add_actions(
                table_uri,
                delta_schema,
                actions,
                mode="error",
                partition_by=[SPARK_PARTITION_COLUMN],
                configuration=TABLE_PROPERTIES,
                storage_options=delta_options(options),
                commit_properties=properties,
            )
        else:
            table.create_write_transaction(
                [*actions],
                mode="overwrite",
                schema=delta_schema,
                partition_by=[SPARK_PARTITION_COLUMN],
                commit_properties=properties,
            )
    except (CommitFailedError, DeltaError) as error:
        first = str(error).splitlines()[0]
        raise DataError(
            f"the commit to {table_uri} was refused ({first}); if another run published at the same time, its version "
            "stands and this one is not published: run again"
        ) from error
    return _version_committed(table_uri, manifest_root, options), True


def restore(table: DeltaTable, wanted: Manifest, table_uri: str, options: Storage) -> int:
    """Commit the files of a published version as the newest version of the table; return its number.

    Raises DataError where Delta refuses, for instance because of a concurrent commit.
    """
    try:
        table.restore(wanted.delta_version, commit_properties=_properties(wanted.manifest_root))
    except (CommitFailedError, DeltaError) as error:
        first = str(error).splitlines()[0]
        raise DataError(
            f"version {wanted.delta_version} of {table_uri} cannot be restored: {first}"
        ) from error
    return _version_committed(table_uri, wanted.manifest_root, options)


def _properties(manifest_root: str) -> CommitProperties:
    return CommitProperties(custom_metadata={ROOT_KEY: manifest_root}, max_commit_retries=0)


def _version_committed(table_uri: str, manifest_root: str, options: Storage) -> int:
    """Return the version just committed. Raises CheckError where the table does not show it."""
    after = open_table(table_uri, options)
    if after is None or committed_root(after) != manifest_root:
        raise CheckError(f"{table_uri} does not show the version that was just committed; run again")
    return after.version()


def listed_files(table_uri: str, version: int, options: Storage) -> list[str]:
    """Return the paths, relative to the table, of the files in a version.

    Raises DataError where there is no such version.
    """
    table = open_table(table_uri, options, version)
    if table is None:
        raise DataError(f"there is no Delta table at {table_uri}; restore it or publish the data set again")
    return list(table.get_add_actions(flatten=True).column("path").to_pylist())
