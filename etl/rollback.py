"""rollback: makes an earlier published version the current one, as a new version with the same content and root.

Nothing is deleted: a later rollback can return to the version left behind. All files of the earlier version are
hashed first. The tables of bronze and silver stay as they are, so that the next run of the pipeline publishes the
current sources with the current configuration.
"""

import sys
from collections.abc import Sequence

from common.command import configuration_parser, run
from common.errors import UsageError
from common.progress import log
from schemas.config import load


def main(argv: Sequence[str] | None = None) -> int:
    parser = configuration_parser("python -m etl.rollback", __doc__)
    parser.add_argument(
        "--to", type=int, required=True, metavar="N", help="the version, as `ringlake-etl history` lists it"
    )
    arguments = parser.parse_args(argv)
    config = load(arguments.config, arguments.overrides)
    if arguments.to < 0:
        raise UsageError(f"--to {arguments.to}: versions count from 0")

    from etl.runs.audit import audited
    from etl.runs.environment_errors import environment_errors_explained
    from etl.runs.lock import locked
    from etl.versions.restoring import roll_back

    with environment_errors_explained(config), locked(config), audited("rollback", config) as outcome:
        manifest = roll_back(config, arguments.to)
        outcome["delta_version"] = manifest.delta_version
    log(f"version {manifest.delta_version} is current, with the content of version {arguments.to}")
    log(f"  root: {manifest.manifest_root}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
