"""Data-quality report of a version, or of an attempt that a gate stopped."""

from collections.abc import Mapping, Sequence

from pyspark.sql import SparkSession

from common import storage
from common.pages.page import Page, ReportSection, render
from etl.duplicates.leakage import leakage_sample
from etl.figures.drift import EarlierProfile, Profile, profile_before
from etl.figures.facts import Summary
from etl.gates import data_docs
from etl.gates.results import GateResults
from etl.lake.outcomes import rows_to_publish
from etl.lake.tables import read_table
from etl.reporting import columns, drift, records, splits, stages
from etl.reporting.attention import attention
from etl.reporting.examples import Example, Reason, cluster_snippets, quarantine_reasons, rule_examples
from etl.reporting.images import Sheets, images, sheets_of
from etl.rules.personal_data import Mask
from etl.runs.code import code_of
from etl.runs.stage_metrics import StageMetrics, persisted
from etl.spark.session import spark_progress
from schemas import class_mix
from schemas.config import Configuration
from schemas.manifest import Manifest
from schemas.tables import Layout

SAMPLED_TEST_ROWS = 200


REPORT = "report.html"
OF_REPORT = ("etl.reporting", "etl.figures", "etl.gates")
"""Packages that make the report."""


def write_report(
    spark: SparkSession,
    config: Configuration,
    summary: Summary,
    manifest: Manifest | None,
    gates: GateResults,
) -> str:
    """Write `quality/report.html` and the Data Docs; return the report's location.

    `manifest` is None for a failed attempt.
    """
    versions = table_versions(manifest)
    mask = Mask(config.clean)
    with spark_progress(spark, "write report"):
        page = report_page(
            summary,
            config,
            manifest,
            gates,
            quarantine_reasons(spark, config, versions, mask),
            rule_examples(spark, config, versions, mask),
            cluster_snippets(
                spark,
                config,
                [*summary.largest_clusters, *(c.cluster for c in summary.largest_conflicts)],
                versions,
                mask,
            ),
            [(mask(record_id), value) for record_id, value in _similarities(spark, config)],
            persisted(config),
            profile_before(config, manifest),
            sheets_of(spark, config, summary, versions),
        )
    layout = Layout.of(config)
    data_docs.write(
        gates.validations, config.dataset.name, storage.join(layout.quality, "data_docs"), config.storage
    )
    location = storage.join(layout.quality, REPORT)
    storage.write_bytes(location, render(page).encode(), config.storage)
    return location


def report_page(
    summary: Summary,
    config: Configuration,
    manifest: Manifest | None,
    gates: GateResults,
    reasons: Sequence[Reason],
    examples: Sequence[Example],
    snippets: Mapping[str, str],
    similarities: Sequence[tuple[str, float]],
    stage_metrics: Sequence[StageMetrics] = (),
    before: EarlierProfile | None = None,
    sheets: Sheets | None = None,
) -> Page:
    """Return the page from the collected figures; equal figures give equal pages."""
    if manifest is None:
        subtitle = "Nothing was published: this is the report of an attempt that a gate stopped."
    else:
        subtitle = (
            f"Version {manifest.delta_version}, published {manifest.provenance.created}, manifest root "
            f"{manifest.manifest_root}"
        )
    shown = [
        attention(summary, config, gates, similarities, stage_metrics, before),
        records.funnel(summary),
        records.gate_table(gates, "data_docs/index.html"),
        drift.compared(before, Profile.of(summary), config),
        records.quarantine(summary, reasons),
        *([records.rules(summary, config, examples)] if config.text_columns() else []),
        *([columns.typed(summary)] if summary.typed else []),
        *columns.distributions(summary, before),
        *([images(summary, config, sheets)] if sheets is not None else []),
        records.duplicates(summary, snippets, Mask(config.clean)),
        *(
            [records.label_conflicts(summary, snippets, config, Mask(config.clean))]
            if config.columns.label is not None
            else []
        ),
        *([splits.classes(summary)] if config.columns.label is not None else []),
        *_class_balance(manifest),
        *([splits.lengths(summary)] if summary.characters or summary.tokens else []),
        splits.balance(summary, config),
        stages.slowest(stage_metrics),
        stages.balance(stage_metrics),
        splits.leakage(similarities, config),
        splits.sources(summary),
        splits.provenance(manifest, config),
    ]
    title = f"Data quality of {config.dataset.name}"
    return Page(title, subtitle, records.tiles(summary, gates), shown, made_by())


def _class_balance(manifest: Manifest | None) -> list[ReportSection]:
    """Return the section on class balance; nothing without classes or a publication."""
    if manifest is None or not manifest.splits["train"].label_counts:
        return []
    return [class_mix.section(manifest.splits["train"])]


def is_report_of(manifest: Manifest, config: Configuration) -> bool:
    """Return True where the existing report is of a version, whose root it names, and made by the code of today."""
    location = storage.join(Layout.of(config).quality, REPORT)
    if not storage.exists(location, config.storage):
        return False
    content = storage.read_bytes(location, config.storage)
    return manifest.manifest_root.encode() in content and made_by().encode() in content


def made_by() -> str:
    """Return the last line of the report, with the fingerprint of the code that makes it."""
    return f"Made by ringlake, code {code_of(*OF_REPORT)[:16]}."


def table_versions(manifest: Manifest | None) -> dict[str, int]:
    """Return the versions of the bronze and silver tables in a manifest; none without one: the newest are read."""
    if manifest is None:
        return {}
    return {**manifest.provenance.bronze_versions, **manifest.provenance.silver_versions}


def _similarities(spark: SparkSession, config: Configuration) -> list[tuple[str, float]]:
    encoded = rows_to_publish(read_table(spark, Layout.of(config).encoded))
    splits = encoded.select("record_id", "split")
    if config.deduplicate.label_conflicts == "majority":
        # There a text may have its signature under a record that another one with a more frequent label replaced.
        copies = read_table(spark, Layout.of(config).ledger).where("status = 'exact_duplicate'")
        kept = splits.withColumnRenamed("record_id", "reason")
        splits = splits.unionByName(copies.join(kept, "reason").select("record_id", kept["split"]))
    sample = leakage_sample(spark, config, splits, SAMPLED_TEST_ROWS)
    return list(zip(sample["record_id"].astype(str), sample["highest_similarity"].astype(float), strict=True))
