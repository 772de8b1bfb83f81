"""History of a data set: its published versions, oldest first, and the changes between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common import storage
from common.errors import DataError
from schemas.config import Configuration
from schemas.manifest import Manifest, SourceEntry, published
from schemas.manifest import load as load_manifest
from schemas.tables import EXPIRED, Layout

FUNNEL = ("records_in", "quarantined", "filtered", "exact_duplicates", "near_duplicates", "published")


@dataclass(frozen=True)
class Version:
    """Published version; `manifest` is None where it is no longer readable."""

    number: int
    manifest: Manifest | None
    expired: bool
    changes: list[str]
    """Differences from the previous version, or faults of its manifest; a sentence each."""


def history(config: Configuration) -> list[Version]:
    """Return all versions ever published, oldest first."""
    manifests = Layout.of(config).manifests
    places = {
        version: (location, False) for version, location in published(manifests, config.storage).items()
    }
    gone = published(storage.join(manifests, EXPIRED), config.storage)
    places |= {version: (location, True) for version, location in gone.items() if version not in places}
    found: list[Version] = []
    for version in sorted(places):
        location, expired = places[version]
        try:
            manifest = load_manifest(location, config.storage)
        except DataError as error:
            found.append(Version(version, None, expired, [str(error)]))
            continue
        earlier = [before.manifest for before in found if before.manifest is not None]
        found.append(Version(version, manifest, expired, changes(earlier, manifest)))
    return found


def changes(earlier: Sequence[Manifest], now: Manifest) -> list[str]:
    """Return the differences of a version from the previous one."""
    if not earlier:
        return ["the first version"]
    before = earlier[-1]
    same = [m.delta_version for m in earlier if m.manifest_root == now.manifest_root]
    if same:
        return [f"the content of version {same[-1]} again"]
    found = []
    old, new = before.content.configuration, now.content.configuration
    sections = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    if sections:
        found.append(f"configuration: {', '.join(sections)}")
    if before.provenance.code_version != now.provenance.code_version:
        found.append(f"code: {before.provenance.code_version} to {now.provenance.code_version}")
    if before.content.sources.root != now.content.sources.root:
        found.append(f"sources: {_source_changes(before, now)}")
    counts = _differences(before.content.counts, now.content.counts)
    return [*found, *([f"counts: {counts}"] if counts else [])] or ["the same rows in other shards"]


def _source_changes(before: Manifest, now: Manifest) -> str:
    old, new = before.content.sources, now.content.sources
    if old.inline is None or new.inline is None:
        return f"{old.files:,} files ({old.bytes:,} bytes) to {new.files:,} files ({new.bytes:,} bytes)"
    was, are = _hashes(old.inline), _hashes(new.inline)
    added, gone = are.keys() - was.keys(), was.keys() - are.keys()
    altered = [key for key in was.keys() & are.keys() if was[key] != are[key]]
    parts = [(len(added), "new"), (len(gone), "gone"), (len(altered), "altered")]
    return ", ".join(f"{count:,} {what}" for count, what in parts if count)


def _hashes(files: Sequence[SourceEntry]) -> dict[tuple[int, str], str | None]:
    return {(file.source_index, file.path): file.sha256 for file in files}


def _differences(before: Mapping[str, int], now: Mapping[str, int]) -> str:
    parts = [(name.replace("_", " "), now.get(name, 0) - before.get(name, 0)) for name in FUNNEL]
    return ", ".join(f"{name} {difference:+,}" for name, difference in parts if difference)


def lines(versions: Sequence[Version]) -> list[str]:
    """Return the history as text, newest version first."""
    shown = []
    for version in reversed(versions):
        state = ", current" if version is versions[-1] else ", vacuumed" if version.expired else ""
        title = f"version {version.number}{state}: "
        if version.manifest is None:
            shown += [f"{title}its manifest cannot be read", *(f"  {wrong}" for wrong in version.changes)]
            continue
        counts, made = version.manifest.content.counts, version.manifest.provenance
        shown += [
            f"{title}{counts['published']:,} of {counts['records_in']:,} records, "
            f"published {made.created} by {made.user} on {made.host}",
            f"  root {version.manifest.manifest_root}",
            f"  configuration {made.configuration_sha256}, code {made.code_version}",
            *(f"  {change}" for change in version.changes),
        ]
    return shown
