"""verify: re-hashes a published version's manifest, every shard and every artifact.

Every damaged, missing or foreign file is named (foreign: in the Delta version but not in the manifest; left-overs of
failed attempts are in no version and are legitimate), and the first altered entry of the data set's audit trail. Exit
status 0, or 1 when there is any.
"""

import argparse
import sys
from collections.abc import Sequence

from common.command import add_root_flag, add_version_flag, overrides, run
from common.errors import UsageError
from common.progress import log
from common.storage import Storage
from schemas.config import load as load_configuration
from schemas.manifest import load_with_shards, published, resolve


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
    add_root_flag(parser)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    arguments = parser.parse_args(argv)
    if arguments.manifest is not None and arguments.version is not None:
        raise UsageError("say which version either by MANIFEST or by --version, not by both")
    given = arguments.version or arguments.manifest or "latest"
    options = Storage()
    config = None if arguments.config is None else load_configuration(arguments.config, overrides(arguments))

    from etl.runs import audit
    from etl.versions.verification import check_trail_alone, findings
    from schemas.tables import Layout

    if config is not None:
        options, layout = config.storage, Layout.of(config)
        if given == "latest" and not published(layout.manifests, options):
            return check_trail_alone(layout, options)
        given = resolve(given, layout.manifests, options)
    elif given == "latest" or given.isdecimal():
        raise UsageError("say which version: a MANIFEST, or --config FILE for the newest of that data set")
    manifest = load_with_shards(given, options, arguments.root)
    found = findings(manifest, options)
    found += audit.findings(Layout(manifest.dataset_uri), {given: manifest}, options)
    for sentence in found:
        log(f"error: {sentence}")
    if found:
        log(f"{given}: {len(found)} of its files are not as published")
        return 1
    shards = sum(len(content.shards) for content in manifest.splits.values())
    print(
        f"{given}: all {shards} shards and {len(manifest.content.artifacts)} artifacts are as they were published"
    )
    print(f"root {manifest.manifest_root}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
