"""The whole way from the sources to a published version, in one Spark session: all stages, then the report.

Exit status 0: published; 1: damaged data or a failed check; 2: wrong use or configuration; 3: a quality gate.
"""

import sys
import time
from collections.abc import Sequence

from etl.clean import clean
from etl.deduplicate import deduplicate
from etl.encode import encode
from etl.ingest import ingest
from etl.publish import publish_version
from etl.quality import check_quarantine
from etl.report import write_report
from etl.session import build_session
from etl.split import split
from etl.stage import timed
from etl.task_metrics import keep, newest_spark_stage, shuffles_since
from schemas.command import configuration_parser, run
from schemas.config import load
from schemas.errors import CheckError
from schemas.manifest import name_of
from schemas.progress import say
from schemas.storage import hadoop_options, join
from schemas.tables import Layout


def main(argv: Sequence[str] | None = None) -> int:
    arguments = configuration_parser("python -m etl.pipeline", __doc__).parse_args(argv)
    config = load(arguments.config, arguments.overrides)
    layout = Layout.of(config)
    began = time.monotonic()
    spark = build_session(f"{config.dataset.name}-pipeline", hadoop_options(config.storage))
    try:
        counts = timed("ingest", ingest, spark, config)
        check_quarantine(counts["records_in"], counts["quarantined"], config)
        for name, stage in (
            ("clean", clean),
            ("deduplicate", deduplicate),
            ("split", split),
            ("encode", encode),
        ):
            timed(name, stage, spark, config)
        say("publish …")
        before = newest_spark_stage(spark)
        manifest, summary, gates = publish_version(spark, config, began)
        keep(shuffles_since(spark, before, "publish"), config)
        published = manifest.content.counts["published"]
        if published != sum(content.rows for content in manifest.splits.values()):
            raise CheckError("the splits do not add up to what was published; report this")
        say("report …")
        report = write_report(spark, config, summary, manifest, gates)
    finally:
        spark.stop()
    say(
        f"published {published:,} of {manifest.content.counts['records_in']:,} records "
        f"in {time.monotonic() - began:.0f} s"
    )
    say(f"  report:   {report}")
    say(f"  manifest: {join(layout.manifests, name_of(manifest.delta_version, manifest.manifest_root))}")
    say(f"  root:     {manifest.manifest_root}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
