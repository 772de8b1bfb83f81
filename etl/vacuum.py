"""vacuum: deletes files that only expired versions need. `--dry-run` lists them, and deletes nothing.

Kept are the newest `versions.keep` published versions, all of the last `versions.keep_days` days, and the current
content of every table. No file that a kept manifest names is ever deleted: neither shards nor artifacts nor the
versions of bronze and silver that it came from. The manifests of expired versions are moved to `manifests/expired/`,
where what they held can still be looked up, without the rows.

--forgotten deletes every version with records that `ringlake-etl forget` has erased since, however new, and all
earlier content of the tables: afterwards no file of the data set holds erased records.
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from common.command import configuration_parser, run
from common.progress import log
from schemas.config import load


def main(argv: Sequence[str] | None = None) -> int:
    parser = configuration_parser("python -m etl.vacuum", __doc__)
    parser.add_argument(
        "--dry-run", action="store_true", help="report what would be deleted, and delete nothing"
    )
    parser.add_argument(
        "--forgotten",
        action="store_true",
        help="delete all versions that hold what `forget` erased, whatever [versions] keeps",
    )
    arguments = parser.parse_args(argv)
    config = load(arguments.config, arguments.overrides)

    from etl.runs.audit import audited
    from etl.runs.environment_errors import environment_errors_explained
    from etl.runs.lock import locked
    from etl.versions.retention import vacuum

    with environment_errors_explained(config), locked(config):
        if arguments.dry_run:
            counts = vacuum(config, datetime.now(UTC), True, arguments.forgotten)
        else:
            with audited("vacuum", config) as outcome:
                counts = vacuum(config, datetime.now(UTC), forgotten=arguments.forgotten)
                outcome["counts"] = counts
    shown = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    log(f"{'would be deleted' if arguments.dry_run else 'deleted'} (files, except for versions): {shown}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
