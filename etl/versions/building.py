"""The stages one after the other, from the sources to a published version and its report.

Stages that are complete, with the same input, configuration and code, are skipped.
"""

from pyspark.sql import SparkSession

from common.errors import CheckError
from common.progress import log
from common.storage import join
from etl.gates.expectations import declared
from etl.gates.limits import check_quarantine
from etl.reporting.page import REPORT, is_report_of, write_report
from etl.runs.run import Run, Tables
from etl.runs.stage_metrics import measured
from etl.stages import clean, deduplicate, encode, ingest, split
from etl.stages.running import timed
from etl.versions.judging import judge_version
from etl.versions.publishing import publish_version, published
from schemas.config import Configuration
from schemas.manifest import Manifest
from schemas.tables import Layout

STAGES = tuple(stage.STAGE for stage in (ingest, clean, deduplicate, split, encode))
"""In order; publishing, which comes last, depends on more than silver/encoded."""


def nothing_new(config: Configuration) -> tuple[Manifest, str] | None:
    """Return the published version and its report's location where all stages are complete; needs no Spark."""
    data_set = Tables(config)
    for stage in STAGES:
        counts = stage.completion(data_set)
        if counts is None:
            return None
        if stage.name == "ingest":
            check_quarantine(counts, config)
    standing = published(config)
    if standing is None or not is_report_of(standing, config):
        return None
    log(f"nothing is new: version {standing.delta_version} is current, with every file as published")
    return standing, join(Layout.of(config).quality, REPORT)


def run_stages(spark: SparkSession, config: Configuration, began: float, again: bool) -> tuple[Manifest, str]:
    """Run incomplete stages, or with `again` all; return the published version, and the location of its report."""
    declared(config)  # an impossible expectation stops here, before hours of work
    whole = Run(spark, config)
    first, *others = STAGES
    check_quarantine(timed(first, whole, again), config)
    for stage in others:
        timed(stage, whole, again)
    standing = None if again else published(config)
    if standing is not None:
        log(f"publish: complete, version {standing.delta_version} is current, with every file as published")
        if is_report_of(standing, config):
            return standing, join(Layout.of(config).quality, REPORT)
        log("report …")
        return standing, judge_version(spark, config, standing)[1]
    log("publish …")
    with measured("publish", spark, config):
        manifest, summary, gates = publish_version(spark, config, began)
    rows = manifest.content.counts["published"]
    if rows != sum(content.records for content in manifest.splits.values()):
        raise CheckError("the splits do not add up to what was published; report this")
    log("report …")
    return manifest, write_report(spark, config, summary, manifest, gates)
