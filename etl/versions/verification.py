"""Verification of published files against a manifest, and of the Delta version that it names."""

from common import storage
from common.errors import DataError, UsageError
from common.progress import Progress, log
from common.storage import Storage
from etl.publication.commit import listed_files
from etl.runs import audit
from provenance.checksums import check_file
from schemas.manifest import Manifest
from schemas.tables import Layout


def findings(manifest: Manifest, options: Storage) -> list[str]:
    """Return one sentence for each damaged, missing or foreign file of a version, in the order of the manifest."""
    found: list[str] = []
    files = [
        (manifest.shard_uri(shard), shard.sha256, shard.bytes)
        for content in manifest.splits.values()
        for shard in content.shards
    ]
    files += [(manifest.artifact_uri(a.sha256), a.sha256, a.bytes) for a in manifest.content.artifacts]
    with Progress("verify", sum(size for _, _, size in files), "bytes") as progress:
        for location, sha256, size in files:
            try:
                check_file(location, sha256, size, "full", options, progress.update)
            except DataError as error:
                found.append(str(error))
    try:
        listed = set(listed_files(manifest.table_uri, manifest.delta_version, options))
    except DataError as error:
        return [*found, str(error)]
    named = {shard.path for content in manifest.splits.values() for shard in content.shards}
    table = manifest.table_uri
    found += [
        f"the file {storage.join(table, path)} is foreign: version {manifest.delta_version} of the table lists it, the "
        "manifest does not"
        for path in sorted(listed - named)
    ]
    found += [
        f"the file {storage.join(table, path)} is not in version {manifest.delta_version} of the table, though the "
        "manifest names it"
        for path in sorted(named - listed)
    ]
    return found


def check_trail_alone(layout: Layout, options: Storage) -> int:
    """Check the audit trail of a data set without published versions; return its length.

    Raises UsageError where there is not even an audit trail.
    """
    if not storage.exists(layout.at(audit.FILE), options):
        raise UsageError(
            f"there is nothing to verify in {layout.root}: run the pipeline first, or say where the data set was moved "
            "to (dataset.root)"
        )
    found = audit.findings(layout, {}, options)
    last = audit.last_commit(layout, options)
    if last:
        found.append(
            f"the manifests in {layout.manifests} are missing: the newest publication was that of the root "
            f"{last.get('manifest_root')}"
        )
    for sentence in found:
        log(f"error: {sentence}")
    if not found:
        print(f"{layout.root}: nothing has been published yet; its audit trail is whole")
    return 1 if found else 0
