"""New judgement of a published version, with its report."""

from pyspark.sql import SparkSession

from common import storage
from common.progress import log
from etl.figures.drift import keep_profile, profile_before, with_drifts
from etl.figures.facts import ShardFacts
from etl.figures.summary import summarise
from etl.gates.expectations import published_records
from etl.gates.gx_context import import_in_background
from etl.gates.judgement import judge
from etl.gates.results import GateResults
from etl.reporting.page import table_versions, write_report
from etl.runs.environment_errors import environment_errors_explained
from etl.runs.lock import locked
from etl.sources.files.pieces import source_bytes
from etl.spark.session import build_session, check_startable, spark_progress
from schemas.config import Configuration
from schemas.manifest import Manifest, newest
from schemas.manifest import load as load_manifest
from schemas.tables import Layout


def shard_facts(manifest: Manifest) -> dict[str, list[ShardFacts]]:
    """Return the shards of a published version by split, in the form of the summary."""
    return {
        split: [
            ShardFacts(one.rows, list(one.row_groups), one.bytes, one.records, one.silo)
            for one in content.shards
        ]
        for split, content in manifest.splits.items()
    }


def judge_again(config: Configuration) -> GateResults:
    """Judge the newest published version again, and write its Data Docs and report, in a session of its own.

    It holds the lock, since a publishing run writes the same files.
    """
    check_startable(config.dataset.root)
    with environment_errors_explained(config), locked(config):
        manifest = load_manifest(newest(Layout.of(config).manifests, config.storage), config.storage)
        name, options = f"{config.dataset.name}-report", storage.hadoop_options(config.storage)
        spark = build_session(name, options, lambda: source_bytes(config))
        try:
            gates, location = judge_version(spark, config, manifest)
            log(f"report: {location}")
        finally:
            spark.stop()
    return gates


def judge_version(spark: SparkSession, config: Configuration, manifest: Manifest) -> tuple[GateResults, str]:
    """Judge a published version and write its Data Docs and report; return the results and the report's location."""
    importing = import_in_background()
    with spark_progress(spark, "summarise"):
        summary = summarise(spark, config, shard_facts(manifest), table_versions(manifest))
        summary = with_drifts(summary, profile_before(config, manifest))
    keep_profile(summary, manifest, config)
    importing.join()
    gates = judge(
        summary, config, Layout.of(config), published_records(spark, config, table_versions(manifest))
    )
    return gates, write_report(spark, config, summary, manifest, gates)
