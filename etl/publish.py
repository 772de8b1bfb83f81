"""publish: exact shards, the gates, one atomic Delta version, the manifest, in that order.

Reads silver/encoded at a pinned version; writes gold/shards and manifests/.
"""

import getpass
import json
import shlex
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from etl.delta_tables import commit_facts, read_table, table_version
from etl.encoders import ARTIFACT_PURPOSE, encoder_of
from etl.publication import artifacts, balance, class_balance, commit, shards
from etl.publication.shards import WrittenShard
from etl.quality import GateResults, judge
from etl.report import write_report
from etl.reporting.summary import ShardFacts, Summary, summarise
from etl.session import spark_progress
from etl.stage import stage_main
from schemas import merkle, storage
from schemas.class_balance import ClassBalance
from schemas.command import run
from schemas.config import Configuration, canonical_json
from schemas.errors import CheckError, DataError, UsageError
from schemas.keys import add_sums
from schemas.manifest import (
    FIXED,
    INLINE_SOURCES,
    Artifact,
    Column,
    Content,
    Manifest,
    Provenance,
    Shard,
    SourceFile,
    Sources,
    SplitContent,
    load,
    name_of,
    newest,
)
from schemas.progress import say
from schemas.tables import SPLITS, Layout
from schemas.version import code_version


def publish(spark: SparkSession, config: Configuration) -> Mapping[str, int]:
    """Runs the stage and returns its counts: delta_version, shards, rows of each split."""
    manifest, _, _ = publish_version(spark, config, time.monotonic())
    rows = {split: content.rows for split, content in manifest.splits.items()}
    return {
        "delta_version": manifest.delta_version,
        "shards": sum(len(content.shards) for content in manifest.splits.values()),
        **rows,
    }


def publish_version(
    spark: SparkSession, config: Configuration, began: float
) -> tuple[Manifest, Summary, GateResults]:
    """Publishes what silver/encoded holds; `began` is the `time.monotonic()` that provenance.seconds counts from.

    Raises QualityGateError when a gate fails, before anything is committed, and CheckError when rows were lost.
    """
    layout = Layout.of(config)
    encoded = read_table(spark, layout.encoded, table_version(spark, layout.encoded))
    stored = encoded_artifacts(spark, config, layout)
    classes = _class_names(config, layout, stored)
    ordered = encoded.transform(balance.with_order_key)
    with spark_progress(spark, "plan shards"):
        sent = _sent(ordered)
        rows, width = {split: rows for split, (rows, _) in sent.items()}, shards.row_bytes(config)
        counts = balance.shard_counts(rows, config.publish, width)
        rows_per_group = balance.row_group_size(config.publish, rows, width)
        plans = balance.plan(ordered, {split: (rows[split], counts[split]) for split in rows}, rows_per_group)
        of_train = class_balance.of_train(encoded, config.balance, classes)
    with spark_progress(spark, "write shards"):
        taken = class_balance.by_index(of_train, classes)
        written = shards.write_shards(ordered, plans, rows_per_group, config, layout.shards, taken)
    _nothing_lost(sent, written)
    with spark_progress(spark, "check quality"):
        facts = {
            split: [ShardFacts(s.rows, s.row_groups, s.bytes) for s in written if s.split == split]
            for split in SPLITS
        }
        summary = summarise(spark, config, facts)
    gates = judge(summary, config, layout)
    if not gates.passed:
        say(f"  report: {write_report(spark, config, summary, None, gates)}")
        gates.raise_for_failures()
    summary.check_accounting()
    content = manifest_content(spark, config, layout, written, stored, summary.counts(), of_train)
    manifest = _commit(spark, config, layout, content, written, began)
    return manifest, summary, gates


def _sent(ordered: DataFrame) -> dict[str, tuple[int, int]]:
    """Rows and the sum of the order keys of each split, to compare with what the writers received."""
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


def encoded_artifacts(spark: SparkSession, config: Configuration, layout: Layout) -> dict[str, str]:
    """The hashes of the artifacts that the newest version of silver/encoded was made with, by feature, and `classes`.

    Raises UsageError when a table was made by another configuration of the data, or from a version of another table
    that is no longer the newest: what would be published is not what the manifest would say.
    """
    facts = commit_facts(spark, layout.encoded)
    for name, uri in (("clean", layout.fields), ("split", layout.ledger), ("encode", layout.encoded)):
        made_by = (facts if name == "encode" else commit_facts(spark, uri)).get("data_sha256")
        if made_by != config.data_sha256() and (made_by is not None or name == "encode"):
            raise UsageError(
                f"{uri} was made by another configuration of the data than the one that is given; "
                f"run the stage {name} again, and those after it"
            )
    for name, version in facts.get("versions", {}).items():
        uri = layout.at("silver", name)
        if table_version(spark, uri) != version:
            raise UsageError(f"{uri} has changed since {layout.encoded} was made; run the stage encode again")
    records = commit_facts(spark, layout.fields).get("records_version")
    if records is not None and records != table_version(spark, layout.records):
        raise UsageError(
            f"{layout.records} has changed since {layout.fields} was made; run the stage clean again"
        )
    stored: dict[str, str] = facts["artifacts"]
    return stored


def manifest_content(
    spark: SparkSession,
    config: Configuration,
    layout: Layout,
    written: Sequence[WrittenShard],
    stored: Mapping[str, str],
    counts: dict[str, int],
    of_train: ClassBalance,
) -> Content:
    """What the root is taken over."""
    kept = {name: _artifact(layout, config, name, sha256) for name, sha256 in stored.items()}
    classes = _class_names(config, layout, stored)
    balances = {split: of_train if split == "train" else ClassBalance() for split in SPLITS}
    sources, listing = source_list(spark, layout)
    artifact_list = list(kept.values())
    if listing is not None:
        artifact_list.append(artifacts.store(listing, "sources", layout, config.storage))
        sources = sources.model_copy(update={"list_sha256": artifact_list[-1].sha256})
    schema = shards.shard_schema(config)
    return Content(
        dataset=config.dataset.name,
        configuration=config.data_sections(),
        columns=_columns(config, stored, layout),
        schema_fingerprint=_fingerprint(schema),
        counts=counts,
        sources=sources,
        artifacts=sorted(artifact_list, key=lambda a: (a.purpose, a.sha256)),
        splits={split: _split_content(split, written, classes, balances[split]) for split in SPLITS},
    )


def _class_names(config: Configuration, layout: Layout, stored: Mapping[str, str]) -> list[str]:
    """By label index."""
    content = storage.read_bytes(storage.join(layout.artifacts, stored["classes"]), config.storage)
    return list(json.loads(content))


def _artifact(layout: Layout, config: Configuration, name: str, sha256: str) -> Artifact:
    content = storage.read_bytes(storage.join(layout.artifacts, sha256), config.storage)
    kinds = {feature.name: ARTIFACT_PURPOSE[feature.encode] for feature in config.feature}
    return Artifact(purpose=kinds.get(name, name), bytes=len(content), sha256=sha256)


def _fingerprint(schema: pa.Schema) -> str:
    fields = [
        {
            "name": field.name,
            "type": str(field.type),
            "nullable": field.nullable,
            "metadata": {k.decode(): v.decode() for k, v in (field.metadata or {}).items()},
        }
        for field in schema
    ]
    return merkle.leaf_hash(canonical_json(fields)).hex()


def _columns(config: Configuration, stored: Mapping[str, str], layout: Layout) -> list[Column]:
    columns = [
        Column(name="record_id", role="id", dtype="string", shape=[], storage="string"),
        Column(name="record_key", role="key", dtype="uint64", shape=[2], storage=FIXED),
    ]
    if config.columns.label is not None:
        columns.append(
            Column(
                name="label_index",
                role="label",
                dtype="int32",
                shape=[],
                storage="int32",
                artifacts={"classes": stored["classes"]},
            )
        )
    for feature in config.feature:
        encoder = encoder_of(feature)
        artifact = storage.read_bytes(storage.join(layout.artifacts, stored[feature.name]), config.storage)
        columns.append(
            Column(
                name=feature.name,
                role="feature",
                dtype=encoder.dtype(feature),
                shape=encoder.shape(feature),
                storage=FIXED,
                artifacts={ARTIFACT_PURPOSE[feature.encode]: stored[feature.name]},
                vocabulary=encoder.vocabulary(artifact),
            )
        )
    return columns


def _split_content(
    split: str, written: Sequence[WrittenShard], classes: Sequence[str], of_split: ClassBalance
) -> SplitContent:
    mine = [shard for shard in written if shard.split == split]
    labels = {
        name: sum(shard.label_counts.get(index, 0) for shard in mine) for index, name in enumerate(classes)
    }
    return SplitContent(
        rows=sum(shard.rows for shard in mine),
        key_sums=add_sums(shard.key_sums for shard in mine),
        label_counts=labels,
        balance=of_split,
        rows_taken=sum(shard.rows_taken for shard in mine),
        key_sums_taken=add_sums(shard.key_sums_taken for shard in mine),
        shards=[
            Shard(
                path=s.path,
                bytes=s.bytes,
                rows=s.rows,
                row_groups=s.row_groups,
                row_group_crc32=s.row_group_crc32,
                sha256=s.sha256,
                row_groups_taken=s.row_groups_taken,
            )
            for s in mine
        ],
    )


def source_list(spark: SparkSession, layout: Layout) -> tuple[Sources, bytes | None]:
    """The raw files for the manifest, and the content of the artifact that lists them where they are many."""
    rows = (
        read_table(spark, layout.sources).select("source_index", "source_path", "bytes", "sha256").collect()
    )
    files = sorted(
        (SourceFile(source_index=r[0], path=r[1], bytes=r[2], sha256=r[3]) for r in rows),
        key=lambda file: (file.source_index, file.path),
    )
    lines = [canonical_json(file.model_dump(mode="json")) for file in files]
    inline = files if len(files) <= INLINE_SOURCES else None
    sources = Sources(
        files=len(files),
        bytes=sum(file.bytes for file in files),
        root=merkle.root(lines).hex(),
        inline=inline,
        list_sha256=None,
    )
    return sources, None if inline is not None else b"".join(line + b"\n" for line in lines)


def _commit(
    spark: SparkSession,
    config: Configuration,
    layout: Layout,
    content: Content,
    written: Sequence[WrittenShard],
    began: float,
) -> Manifest:
    silver = {
        name: table_version(spark, layout.at("silver", name)) for name in ("fields", "ledger", "encoded")
    }
    bronze = {
        name: table_version(spark, layout.at("bronze", name)) for name in ("sources", "records", "quarantine")
    }
    provenance = Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        host=socket.gethostname(),
        user=getpass.getuser(),
        command=shlex.join(sys.argv),
        code_version=code_version(),
        configuration_sha256=config.sha256(),
        spark_version=spark.version,
        seconds=round(time.monotonic() - began, 1),
        bronze_versions=bronze,
        silver_versions=silver,
    )
    draft = Manifest.seal(content, provenance, layout.shards, -1, layout.root)
    schema = shards.shard_schema(config)
    version, new = commit.commit(written, schema, draft.manifest_root, layout.shards, config.storage)
    location = storage.join(layout.manifests, name_of(version, draft.manifest_root))
    if not new and storage.exists(location, config.storage):
        try:
            standing = load(location, config.storage)
        except DataError as error:
            say(f"  {error}: it is written anew")
        else:
            say(
                f"  nothing has changed: version {version} with root {standing.manifest_root} stands as it is"
            )
            return standing
    manifest = Manifest.seal(content, provenance, layout.shards, version, layout.root)
    storage.write_bytes(location, manifest.to_json(), config.storage)
    say(f"  manifest: {location}")
    say(f"  root: {manifest.manifest_root}")
    if newest(layout.manifests, config.storage) != location:
        raise CheckError(
            f"{location} is not the newest manifest of its folder; is another publication running?"
        )
    return manifest


def main(argv: Sequence[str] | None = None) -> int:
    return stage_main("publish", __doc__, publish, argv)


if __name__ == "__main__":
    sys.exit(run(main))
