"""The whole way from the sources to a published version, in one Spark session: all stages, then the report.

Stages that are complete, with the same input, configuration and code, are skipped: a pipeline that was killed resumes
at the stage it was killed in, and one with nothing new to do commits nothing. --again runs all of them. Exit status
0: published; 1: damaged data or a failed check; 2: wrong use or configuration; 3: a quality gate.
"""

import sys
import time
from collections.abc import Sequence

from common.command import run
from common.progress import log
from common.storage import join
from etl.stages.command import judged


def main(argv: Sequence[str] | None = None) -> int:
    arguments, config = judged("pipeline", __doc__, argv)
    began = time.monotonic()
    from etl.sources.columns import check_columns

    check_columns(config)

    from etl.runs.environment_errors import environment_errors_explained
    from etl.runs.lock import locked
    from etl.spark.session import check_startable
    from etl.stages.running import session_for
    from etl.versions.building import nothing_new, run_stages
    from schemas.manifest import name_of
    from schemas.tables import Layout

    layout = Layout.of(config)
    check_startable(config.dataset.root)
    with environment_errors_explained(config), locked(config):
        standing = None if arguments.again else nothing_new(config)
        if standing is not None:
            manifest, report = standing
        else:
            spark = session_for("pipeline", config)
            try:
                manifest, report = run_stages(spark, config, began, arguments.again)
            finally:
                spark.stop()
    published = manifest.content.counts["published"]
    log(
        f"published {published:,} of {manifest.content.counts['records_in']:,} records "
        f"in {time.monotonic() - began:.0f} s"
    )
    log(f"  report:   {report}")
    log(f"  manifest: {join(layout.manifests, name_of(manifest.delta_version, manifest.manifest_root))}")
    log(f"  root:     {manifest.manifest_root}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
