"""Retention: the versions and files to keep, and the deletion of all others."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from common import storage
from common.errors import CheckError, DataError, UsageError
from etl.figures.drift import remove_profiles
from etl.lake.facts import EncodedFacts, RecordsFacts
from etl.lake.log import Commit, open_table, version_in
from etl.lake.tombstones import Tombstones, erased_before
from etl.publication.commit import committed, listed_files
from etl.runs.audit import TABLES
from etl.runs.finished import finished_run
from etl.runs.run import Tables
from etl.versions.verification import findings
from schemas.config import Configuration
from schemas.manifest import Manifest, published
from schemas.manifest import load as load_manifest
from schemas.settings import Versions
from schemas.tables import EXPIRED, Layout


def kept_versions(published_at: Mapping[int, datetime], policy: Versions, now: datetime) -> set[int]:
    """Return the versions that meet either condition of the policy."""
    newest = sorted(published_at)[-policy.keep :]
    oldest = now - timedelta(days=policy.keep_days)
    return {*newest, *(version for version, moment in published_at.items() if moment >= oldest)}


def versions_without_forgotten(config: Configuration, manifests: Mapping[int, Manifest]) -> set[int]:
    """Return the versions made after everything that is forgotten today had been forgotten.

    Raises UsageError where nothing was ever forgotten, or the newest version is not one of them.
    """
    layout = Layout.of(config)
    tombstones = Tombstones.of(config)
    if not tombstones:
        raise UsageError(
            f"nothing of {config.dataset.name} was forgotten: vacuum without --forgotten keeps to [versions]"
        )
    known = {
        number: erased_before(manifest, layout, config.storage) for number, manifest in manifests.items()
    }
    found = {number for number, erased in known.items() if erased == tombstones.fingerprint()}
    if manifests and max(manifests) not in found:
        raise UsageError(
            f"the current version {max(manifests)} still comes from what was forgotten: publish one without it first "
            "(ringlake-etl run); nothing was deleted"
        )
    return found


def expired_with_forgotten(config: Configuration) -> list[str]:
    """Return the manifests of expired versions that came from records forgotten today, or may have.

    Only their counts remain, which are kept for comparison.
    """
    layout = Layout.of(config)
    today = Tombstones.of(config).fingerprint()
    found = []
    for location in published(storage.join(layout.manifests, EXPIRED), config.storage).values():
        try:
            erased = erased_before(load_manifest(location, config.storage), layout, config.storage)
        except DataError:  # it is unreadable, so nobody knows
            erased = None
        if erased != today:
            found.append(location)
    return found


def vacuum(
    config: Configuration, now: datetime, dry_run: bool = False, forgotten: bool = False
) -> dict[str, int]:
    """Delete everything that is not kept; return the number of deleted versions, files by table, and artifacts.

    With `forgotten`, keep only versions without records that are forgotten today. Raises DataError where a kept
    version is damaged: the remains may be all there is.
    """
    layout = Layout.of(config)
    locations = published(layout.manifests, config.storage)
    manifests = {version: load_manifest(place, config.storage) for version, place in locations.items()}
    moments = {n: datetime.fromisoformat(manifest.provenance.created) for n, manifest in manifests.items()}
    by_policy = versions_without_forgotten(config, manifests) if forgotten else None
    stay = kept_versions(moments, config.versions, now) if by_policy is None else by_policy
    kept = [manifest for version, manifest in manifests.items() if version in stay]
    gone = [location for version, location in locations.items() if version not in stay]
    for number, wrong in _damaged(kept, config):
        raise DataError(f"version {number}, which is kept, is damaged; nothing was deleted: {wrong}")
    earlier = expired_with_forgotten(config) if forgotten else []
    counts = {"versions": len(gone)}
    tables = [(layer, name) for layer, names in TABLES.items() for name in names]
    needed = {table: needed_versions(*table, kept, config) for table in tables}
    if not dry_run:
        # First of all, so that no manifest ever names a missing file, should this break off.
        for location in gone:
            _expire(location, layout, config)
    for layer, name in tables:
        counts[f"{layer}/{name}"] = _vacuum_table(layer, name, needed[layer, name], config, dry_run)
    counts["artifacts"] = _vacuum_artifacts(kept, layout, config, dry_run)
    if forgotten:  # a word of few records may reveal something about a person who is forgotten
        counts["profiles"] = remove_profiles([*gone, *earlier], kept, config, dry_run)
    for number, wrong in _damaged(kept, config) if not dry_run else ():
        raise CheckError(f"version {number} was kept and yet is damaged now; report this: {wrong}")
    return counts


def _damaged(manifests: Sequence[Manifest], config: Configuration) -> Iterator[tuple[int, str]]:
    """Yield the number of each damaged version, with one of its faults."""
    for manifest in manifests:
        wrong = findings(manifest, config.storage)
        if wrong:
            yield manifest.delta_version, wrong[0]


def _expire(location: str, layout: Layout, config: Configuration) -> None:
    """Move a manifest out of the folder of readable ones."""
    content = storage.read_bytes(location, config.storage)
    name = location.rsplit("/", 1)[-1]
    storage.write_bytes(storage.join(layout.manifests, EXPIRED, name), content, config.storage)
    file_system, path = storage.filesystem(location, config.storage)
    file_system.rm(path)


def needed_versions(layer: str, name: str, kept: Sequence[Manifest], config: Configuration) -> set[int]:
    """Return the versions of a table whose files stay: the newest, and those that kept manifests name.

    Raises DataError where one can no longer be opened: its files would then be unknown.
    """
    uri = Layout.of(config).at(layer, name)
    table = open_table(uri, config.storage)
    if table is None:
        return set()
    needed = {committed(table)[0]}
    noted = _noted(layer, name, Tables(config))
    if noted is not None and noted.startswith(f"{table.metadata().id}@"):
        needed.add(version_in(noted))
    for manifest in kept:
        made = manifest.provenance
        of_layer = {"bronze": made.bronze_versions, "silver": made.silver_versions}
        needed |= {manifest.delta_version} if layer == "gold" else set()
        # Signatures are in no manifest: only the newest are compared with.
        needed |= {of_layer[layer][name]} if layer != "gold" and name in of_layer[layer] else set()
    for version in sorted(needed):
        listed_files(uri, version, config.storage)
    return needed


def _noted(layer: str, name: str, tables: Tables) -> str | None:
    """Return the identity of the version of a table that the next run continues from, if it is noted elsewhere."""
    if (layer, name) in (("silver", "signatures"), ("silver", "clusters")):
        run = finished_run(tables)
        return None if run is None else run.tables[name]
    if layer == "bronze" and name != "records":
        records = tables.commit("records")
        facts = None if records is None else records.facts(RecordsFacts)
        return None if facts is None else facts.tables.get(name)
    return None


def _vacuum_table(layer: str, name: str, needed: set[int], config: Configuration, dry_run: bool) -> int:
    table = open_table(Layout.of(config).at(layer, name), config.storage)
    if table is None:
        return 0
    # The lock is held: files of no kept version were left behind, and no other run is about to commit them.
    files = table.vacuum(
        0, dry_run=dry_run, enforce_retention_duration=False, full=True, keep_versions=sorted(needed)
    )
    return len(files)


def _vacuum_artifacts(kept: Sequence[Manifest], layout: Layout, config: Configuration, dry_run: bool) -> int:
    named = {artifact.sha256 for manifest in kept for artifact in manifest.content.artifacts}
    named |= _encoded_artifacts(layout, config)
    file_system, path = storage.filesystem(layout.artifacts, config.storage)
    if not kept or not file_system.isdir(path):
        return 0
    files = [file for file in file_system.ls(path, detail=False) if file.rsplit("/", 1)[-1] not in named]
    for file in files if not dry_run else ():
        file_system.rm(file)
    return len(files)


def _encoded_artifacts(layout: Layout, config: Configuration) -> set[str]:
    """Return the artifacts behind silver/encoded, which the next version may be published with."""
    encoded = Commit.of(layout.encoded, config.storage)
    facts = None if encoded is None else encoded.facts(EncodedFacts)
    return set() if facts is None else set(facts.artifacts.values())
