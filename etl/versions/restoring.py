"""Rollback: make an earlier version the current one again."""

import time

from common import storage
from common.errors import CheckError, DataError
from common.invocation import invocation, now
from common.progress import log
from common.version import code_version
from etl.lake.log import open_table
from etl.publication.commit import committed, listed_files, restore
from etl.runs.audit import append
from etl.versions.verification import findings
from schemas.config import Configuration
from schemas.manifest import Manifest, name_of, newest, resolve
from schemas.manifest import load as load_manifest
from schemas.tables import Layout


def roll_back(config: Configuration, version: int) -> Manifest:
    """Make a version current and return the manifest that is current then.

    Raises UsageError where there is no such version, DataError where one of its files is no longer as published.
    """
    layout = Layout.of(config)
    began = time.monotonic()
    wanted = load_manifest(resolve(str(version), layout.manifests, config.storage), config.storage)
    try:
        current = load_manifest(newest(layout.manifests, config.storage), config.storage)
    except DataError as error:
        log(f"note: {error}")
        current = None
    table = open_table(layout.shards, config.storage)
    if table is None:
        raise DataError(f"there is no Delta table at {layout.shards}; restore it")
    at, root = committed(table)
    if current is not None and root == wanted.manifest_root == current.manifest_root:
        log(f"version {current.delta_version} has this content already")
        return current
    wrong = findings(wanted, config.storage)
    if wrong:
        raise DataError(f"version {version} cannot be made current: {'; '.join(wrong)}")
    # A rollback that broke off between its commit and its manifest lacks only the latter.
    restored = at if root == wanted.manifest_root else restore(table, wanted, layout.shards, config.storage)
    if sorted(listed_files(layout.shards, restored, config.storage)) != sorted(
        shard.path for content in wanted.splits.values() for shard in content.shards
    ):
        raise CheckError(
            f"version {restored} of {layout.shards} does not list the files of version {version}"
        )
    facts = {"manifest_root": wanted.manifest_root, "delta_version": restored, "of_version": version}
    append(layout, config, {"action": "rollback", "event": "commit", **facts})
    provenance = wanted.provenance.model_copy(
        update={
            "created": now(),
            **invocation(),
            "code_version": code_version(),
            "seconds": round(time.monotonic() - began, 1),
        }
    )
    manifest = Manifest.seal(wanted.content, provenance, restored, layout.root)
    location = storage.join(layout.manifests, name_of(restored, wanted.manifest_root))
    storage.write_bytes(location, manifest.to_json(), config.storage)
    return manifest
