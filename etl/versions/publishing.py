"""Publication of a version: exact shards, the gates, one atomic Delta version, the manifest, in that order."""

import time
from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from common import storage
from common.errors import CheckError, DataError, UsageError
from common.invocation import invocation, now
from common.progress import log
from common.version import code_version
from etl.figures.drift import Profile, keep_profile, profile_before, with_drifts
from etl.figures.summary import ShardFacts, Summary, summarise
from etl.gates.expectations import file_sha256, published_records
from etl.gates.gx_context import import_in_background
from etl.gates.judgement import judge
from etl.gates.results import GateResults
from etl.lake.facts import FACTS, EncodedFacts
from etl.lake.log import Commit, identity, open_table, table_version
from etl.lake.outcomes import rows_to_publish
from etl.lake.tables import read_table
from etl.lake.tombstones import Tombstones, erased_before
from etl.publication import balance, by_group, class_balance, commit, shards
from etl.publication.content import class_names, largest_groups, manifest_content, packed_layout
from etl.publication.packing import check_written, sums_sent
from etl.publication.shards import WrittenShard
from etl.reporting.page import write_report
from etl.runs.audit import append, audited, last_commit
from etl.runs.code import code_of
from etl.runs.completion import Stage
from etl.runs.run import Run, Tables
from etl.spark.session import spark_progress
from etl.stages.encode import is_encoded
from etl.versions.verification import findings
from schemas import lopsided
from schemas.config import Configuration
from schemas.manifest import (
    Content,
    Manifest,
    Provenance,
    load,
    name_of,
    newest,
)
from schemas.tables import SPLITS, Layout

CODE = ("etl.publication", "etl.gates", "etl.figures")
"""Packages that decide what is published, and whether it is."""

WRITES = {"clean": "fields", "deduplicate": "clusters", "split": "ledger", "encode": "encoded"}
"""Table of silver that each stage commits last."""


def publish(run: Run) -> Mapping[str, int]:
    """Run the stage and return its counts: delta_version, shards, rows of each split."""
    return counts_of(publish_version(run.spark, run.config, time.monotonic())[0])


def publish_version(
    spark: SparkSession, config: Configuration, began: float
) -> tuple[Manifest, Summary, GateResults]:
    """Publish the rows of silver/encoded; `began` is the `time.monotonic()` that provenance.seconds counts from.

    Raises QualityGateError when a gate fails, before anything is committed, and CheckError when rows were lost.
    """
    with audited("publish", config) as outcome:
        manifest, summary, gates = _publish_version(spark, config, began)
        outcome["counts"] = manifest.content.counts
        return manifest, summary, gates


def _publish_version(
    spark: SparkSession, config: Configuration, began: float
) -> tuple[Manifest, Summary, GateResults]:
    layout = Layout.of(config)
    version = table_version(layout.encoded, config.storage)
    encoded = rows_to_publish(read_table(spark, layout.encoded, version))
    stored = encoded_artifacts(config, layout)
    classes = class_names(config, layout, stored)
    ordered = encoded.transform(balance.with_order_key)
    with spark_progress(spark, "plan shards"):
        if config.publish.by_group:
            assert config.columns.group is not None
            fields = read_table(spark, layout.fields)
            ordered = by_group.parted(ordered, fields, config.columns.group)
        packed = packed_layout(config, layout, stored)
        sent, width = _sent(ordered), shards.row_bytes(config)
        rows, packing = {split: rows for split, (rows, _) in sent.items()}, {}
        if packed is not None:
            packing = sums_sent(encoded, packed)
            rows = {split: packed.rows(of_split) for split, of_split in packing.items()}
        of_splits = by_group.of_splits(rows)
        counts = balance.shard_counts(of_splits, config.publish, width)
        rows_per_group = balance.row_group_size(config.publish, of_splits, width)
        counts = by_group.shard_counts(rows, counts)
        wanted = {split: (rows[split], counts[split]) for split in rows}
        size, length = (None, 1) if packed is None else (packed.size(), packed.length)
        records = sum(count for count, _ in sent.values())
        plans = balance.plan(ordered, wanted, rows_per_group, size, length, records)
        of_train = class_balance.of_train(encoded, config.balance, classes, config.train.classes_taken())
    # Its import takes seconds of this process, which does nothing but wait for Spark meanwhile.
    importing = import_in_background()
    with spark_progress(spark, "write shards"):
        repeats = class_balance.by_index(of_train, classes)
        written = shards.write_shards(ordered, plans, rows_per_group, config, layout.shards, repeats, packed)
    if packed is None:
        _nothing_lost(sent, written)
        written = by_group.whole(written)
    else:
        check_written(packing, {split: [s.packing for s in written if s.split == split] for split in SPLITS})
    with spark_progress(spark, "check quality"):
        facts = {
            split: [
                ShardFacts(s.rows, s.row_groups, s.bytes, s.records, s.silo)
                for s in written
                if s.split == split
            ]
            for split in SPLITS
        }
        summary = summarise(spark, config, facts)
        summary = with_drifts(summary, profile_before(config, None, same=Profile.of(summary)))
    importing.join()
    gates = judge(summary, config, layout, published_records(spark, config))
    if not gates.passed:
        log(f"  report: {write_report(spark, config, summary, None, gates)}")
        gates.raise_for_failures()
    summary.check_accounting()
    groups = largest_groups(spark, config, layout, encoded)
    content = manifest_content(spark, config, layout, written, stored, summary.counts(), of_train, groups)
    for sentence in lopsided.of_content(content):
        log(f"  warning: {sentence}")
    manifest = _commit(spark, config, layout, content, written, summary, began)
    keep_profile(summary, manifest, config)
    return manifest, summary, gates


def published(config: Configuration) -> Manifest | None:
    """Return the newest version where publishing again would give the same; None where it may differ.

    It must be the last one published in the audit trail, with the same configuration and code and the same, complete
    silver/encoded; and all its files must be as published (publishing again repairs a damaged one).
    """
    layout = Layout.of(config)
    try:
        manifest = load(newest(layout.manifests, config.storage), config.storage)
    except (DataError, UsageError):
        return None  # no version is published, or it is damaged: publishing rewrites it
    last = last_commit(layout, config.storage)
    same = (last.get("manifest_root"), last.get("configuration_sha256"), last.get("delta_version"))
    if same != (manifest.manifest_root, config.sha256(), manifest.delta_version):
        return None
    if last.get("expectations") != file_sha256(config) or last.get("code") != code_of(*CODE):
        return None
    if not is_encoded(Tables(config)) or last.get("encoded") != identity(layout.encoded, config.storage):
        return None
    gold = open_table(layout.shards, config.storage)
    if gold is None or commit.committed_root(gold) != manifest.manifest_root:
        return None
    return None if findings(manifest, config.storage) else manifest


def counts_of(manifest: Manifest) -> dict[str, int]:
    """Return delta_version, shards, and the rows of each split."""
    return {
        "delta_version": manifest.delta_version,
        "shards": sum(len(content.shards) for content in manifest.splits.values()),
        **{split: content.rows for split, content in manifest.splits.items()},
    }


def published_counts(run: Tables) -> dict[str, int] | None:
    """Return the counts of a version that publishing again would reproduce, None where there is none."""
    manifest = published(run.config)
    return None if manifest is None else counts_of(manifest)


def _sent(ordered: DataFrame) -> dict[str, tuple[int, int]]:
    """Return the rows and the sum of the order keys of each split, to compare with what the writers received."""
    rows = ordered.groupBy("split").agg(
        sf.count("*").alias("rows"), sf.sum(sf.col("order_key").cast("decimal(38,0)")).alias("order_sum")
    )
    return {row["split"]: (row["rows"], int(row["order_sum"])) for row in rows.collect()}


def _nothing_lost(sent: Mapping[str, tuple[int, int]], written: Sequence[WrittenShard]) -> None:
    for split, (rows, order_sum) in sent.items():
        mine = [shard for shard in written if shard.split == split]
        if sum(s.rows for s in mine) != rows or sum(s.order_sum for s in mine) != order_sum:
            raise CheckError(
                f"the {split} shards hold {sum(s.rows for s in mine):,} rows, but {rows:,} were sent, or they are "
                "others: nothing was published; run the stage again and report this"
            )


def encoded_artifacts(config: Configuration, layout: Layout) -> dict[str, str]:
    """Return the hashes of the artifacts behind the newest version of silver/encoded, by feature, and `classes`.

    Raises UsageError when a table was made with another configuration of the data, or from an outdated version of
    another table: the published content would not be what the manifest states.
    """
    commits = {stage: Commit.of(layout.at("silver", name), config.storage) for stage, name in WRITES.items()}
    facts = {
        stage: commit.facts(FACTS[WRITES[stage]]) for stage, commit in commits.items() if commit is not None
    }
    encoded = Commit.existing(layout.encoded, config.storage).facts(EncodedFacts)
    for stage, name in WRITES.items():
        noted = facts.get(stage)
        known = noted is not None or stage == "encode"
        if known and (noted is None or noted.fingerprint.configuration != config.data_sha256(stage)):
            raise UsageError(
                f"{layout.at('silver', name)} was made by another configuration of the data than the given "
                f"one; run the stage {stage} and those after it again"
            )
    assert encoded is not None
    for name in ("fields", "ledger"):
        uri = layout.at("silver", name)
        if identity(uri, config.storage) != encoded.fingerprint.inputs[name]:
            raise UsageError(f"{uri} has changed since {layout.encoded} was made; run the stage encode again")
    divided = facts.get("split")
    if divided is not None and divided.stage == "split":
        clusters = Commit.of(layout.clusters, config.storage)
        if clusters is None or divided.fingerprint.inputs["clusters"] != clusters.identity:
            raise UsageError(
                f"{layout.clusters} has changed since {layout.ledger} was made; run the stage split again"
            )
    cleaned = facts.get("clean")
    if cleaned is not None and cleaned.fingerprint.inputs["records"] != identity(
        layout.records, config.storage
    ):
        raise UsageError(
            f"{layout.records} has changed since {layout.fields} was made; run the stage clean again"
        )
    return encoded.artifacts


def _commit(
    spark: SparkSession,
    config: Configuration,
    layout: Layout,
    content: Content,
    written: Sequence[WrittenShard],
    summary: Summary,
    began: float,
) -> Manifest:
    silver = {
        name: table_version(layout.at("silver", name), config.storage)
        for name in ("fields", "ledger", "encoded")
    }
    bronze = {
        name: table_version(layout.at("bronze", name), config.storage)
        for name in ("sources", "records", "quarantine")
    }
    provenance = Provenance(
        created=now(),
        **invocation(),
        code_version=code_version(),
        configuration_sha256=config.sha256(),
        spark_version=spark.version,
        seconds=round(time.monotonic() - began, 1),
        bronze_versions=bronze,
        silver_versions=silver,
        kept_tokens=summary.kept_tokens(),
    )
    draft = Manifest.seal(content, provenance, -1, layout.root)
    schema = shards.shard_schema(config)
    version, new = commit.commit(written, schema, draft.manifest_root, layout.shards, config.storage)
    # Before the manifest, so that no manifest is unknown to the audit trail.
    published_as = {
        "manifest_root": draft.manifest_root,
        "delta_version": version,
        "new": new,
        "encoded": identity(layout.encoded, config.storage),
        "expectations": file_sha256(config),
        "code": code_of(*CODE),
    }
    append(layout, config, {"action": "publish", "event": "commit", **published_as})
    location = storage.join(layout.manifests, name_of(version, draft.manifest_root))
    if not new and storage.exists(location, config.storage):
        try:
            standing = load(location, config.storage)
        except DataError as error:
            log(f"  {error}: rewriting it")
        else:
            if erased_before(standing, layout, config.storage) == Tombstones.of(config).fingerprint():
                log(
                    f"  nothing has changed: version {version} with root {standing.manifest_root} is still current"
                )
                return standing
            # Else `vacuum --forgotten` would take it for one that came from forgotten records.
            log("  only the tables behind it have changed: rewriting the manifest")
    manifest = Manifest.seal(content, provenance, version, layout.root)
    storage.write_bytes(location, manifest.to_json(), config.storage)
    log(f"  manifest: {location}")
    log(f"  root: {manifest.manifest_root}")
    if newest(layout.manifests, config.storage) != location:
        raise CheckError(
            f"{location} is not the newest manifest of its folder; is another publication running?"
        )
    return manifest


STAGE = Stage("publish", publish, published_counts)
