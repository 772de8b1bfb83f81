"""rollback: makes an earlier published version the current one, as a new version with the same content and root.

Nothing is deleted: the version that is left can be rolled back to as well. All files of the earlier version are hashed
first. The tables of bronze and silver stay as they are, so that the next run of the pipeline publishes, by today's
configuration, what the sources hold.
"""

import sys
import time
from collections.abc import Sequence

from common import storage
from common.command import configuration_parser, run
from common.errors import CheckError, DataError, UsageError
from common.progress import say
from common.version import code_version
from etl.lake.log import open_table
from etl.publication.commit import committed, listed_files, restore
from etl.runs.audit import append, audited
from etl.runs.full_disk import full_disk_is_told
from etl.runs.invocation import invocation, now
from etl.runs.lock import locked
from etl.verify import findings
from schemas.config import Configuration, load
from schemas.manifest import Manifest, name_of, newest, resolve
from schemas.manifest import load as load_manifest
from schemas.tables import Layout


def roll_back(config: Configuration, version: int) -> Manifest:
    """Makes a version current and returns the manifest that is current then.

    Raises UsageError where there is no such version, DataError where a file of it is no longer as it was published.
    """
    layout = Layout.of(config)
    began = time.monotonic()
    wanted = load_manifest(resolve(str(version), layout.manifests, config.storage), config.storage)
    try:
        current = load_manifest(newest(layout.manifests, config.storage), config.storage)
    except DataError as error:
        say(f"note: {error}")
        current = None
    table = open_table(layout.shards, config.storage)
    if table is None:
        raise DataError(f"there is no Delta table at {layout.shards}; restore it")
    at, root = committed(table)
    if current is not None and root == wanted.manifest_root == current.manifest_root:
        say(f"version {current.delta_version} has this content already")
        return current
    wrong = findings(wanted, config.storage)
    if wrong:
        raise DataError(f"version {version} can not be made current: {'; '.join(wrong)}")
    # Where a rollback broke off between its commit and its manifest, only the latter is missing.
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
    manifest = Manifest.seal(wanted.content, provenance, layout.shards, restored, layout.root)
    location = storage.join(layout.manifests, name_of(restored, wanted.manifest_root))
    storage.write_bytes(location, manifest.to_json(), config.storage)
    return manifest


def main(argv: Sequence[str] | None = None) -> int:
    parser = configuration_parser("python -m etl.rollback", __doc__)
    parser.add_argument(
        "--to", type=int, required=True, metavar="N", help="the version, as `ringlake-etl history` lists it"
    )
    arguments = parser.parse_args(argv)
    config = load(arguments.config, arguments.overrides)
    if arguments.to < 0:
        raise UsageError(f"--to {arguments.to}: versions count from 0")
    with full_disk_is_told(config), locked(config), audited("rollback", config) as outcome:
        manifest = roll_back(config, arguments.to)
        outcome["delta_version"] = manifest.delta_version
    say(f"version {manifest.delta_version} is current, with the content of version {arguments.to}")
    say(f"  root: {manifest.manifest_root}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
