"""verify: has a byte of a published version changed since? Re-hashes its manifest, every shard and every artifact.

Every damaged, missing or foreign file is named (foreign: in the Delta version but not in the manifest; left-overs of
failed attempts are in no version and are legitimate), and the first altered entry of the data set's audit trail. Exit
status 0, or 1 when there is any.
"""

import argparse
import sys
from collections.abc import Sequence

from common import storage
from common.command import add_version_flag, run
from common.errors import DataError, UsageError
from common.progress import Progress, say
from common.storage import Storage
from etl.publication.commit import listed_files
from etl.runs import audit
from provenance.checksums import check_file
from schemas.config import load as load_configuration
from schemas.manifest import Manifest, load, published, resolve
from schemas.tables import Layout


def findings(manifest: Manifest, options: Storage) -> list[str]:
    """One sentence for each damaged, missing or foreign file of a version, in the order of the manifest."""
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


def _check_trail_alone(layout: Layout, options: Storage) -> int:
    """Of a data set of which nothing was published yet. Raises UsageError where there is not even an audit trail."""
    if not storage.exists(layout.at(audit.FILE), options):
        raise UsageError(f"there is nothing to verify in {layout.root} yet: run the pipeline first")
    found = audit.findings(layout, {}, options)
    last = audit.last_commit(layout, options)
    if last:
        found.append(
            f"the manifests in {layout.manifests} are missing: the newest publication was that of the root "
            f"{last.get('manifest_root')}"
        )
    for sentence in found:
        say(f"error: {sentence}")
    if not found:
        print(f"{layout.root}: nothing has been published yet; its audit trail is whole")
    return 1 if found else 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m etl.verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "manifest", nargs="?", metavar="MANIFEST", help="a manifest's path or URI, or `latest`"
    )
    add_version_flag(parser)
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="the data set's TOML file, for `latest`, for --version and for [storage]",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    arguments = parser.parse_args(argv)
    if arguments.manifest is not None and arguments.version is not None:
        raise UsageError("say which version either by MANIFEST or by --version, not by both")
    given = arguments.version or arguments.manifest or "latest"
    options = Storage()
    if arguments.config is not None:
        config = load_configuration(arguments.config, arguments.overrides)
        options, layout = config.storage, Layout.of(config)
        if given == "latest" and not published(layout.manifests, options):
            return _check_trail_alone(layout, options)
        given = resolve(given, layout.manifests, options)
    elif given == "latest" or given.isdecimal():
        raise UsageError("say which version: a MANIFEST, or --config FILE for the newest of that data set")
    manifest = load(given, options)
    found = findings(manifest, options)
    found += audit.findings(Layout(manifest.dataset_uri), {given: manifest}, options)
    for sentence in found:
        say(f"error: {sentence}")
    if found:
        say(f"{given}: {len(found)} of its files are not as they were published")
        return 1
    shards = sum(len(content.shards) for content in manifest.splits.values())
    print(
        f"{given}: all {shards} shards and {len(manifest.content.artifacts)} artifacts are as they were published"
    )
    print(f"root {manifest.manifest_root}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
