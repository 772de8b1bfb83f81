"""Content of a manifest, which its root covers, from the written shards and the tables behind them."""

import json
from collections.abc import Mapping, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from common import storage
from etl.encoders import encoder_of, packed_tokens
from etl.lake.tables import read_table
from etl.publication import artifacts, shards
from etl.publication.packing import DOCUMENTS_TYPE, PackedLayout, added
from etl.publication.shards import WrittenShard
from provenance import merkle
from provenance.keys import add_sums
from schemas.class_balance import ClassBalance
from schemas.config import DOCUMENTS, Configuration, canonical_json
from schemas.manifest import (
    FIXED,
    INLINE_SOURCES,
    Artifact,
    Column,
    Content,
    SourceEntry,
    Sources,
)
from schemas.split_content import Shard, SplitContent
from schemas.tables import SPLITS, Layout


def manifest_content(
    spark: SparkSession,
    config: Configuration,
    layout: Layout,
    written: Sequence[WrittenShard],
    stored: Mapping[str, str],
    counts: dict[str, int],
    of_train: ClassBalance,
    largest_groups: Mapping[str, int],
) -> Content:
    """Return the content that the root covers; `largest_groups` as the function below returns them."""
    kept = {name: _artifact(layout, config, name, sha256) for name, sha256 in stored.items()}
    classes = class_names(config, layout, stored)
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
        splits={
            split: _split_content(
                split,
                written,
                classes,
                balances[split],
                config.packed_feature() is not None,
                None if config.columns.group is None else largest_groups.get(split, 0),
            )
            for split in SPLITS
        },
    )


def class_names(config: Configuration, layout: Layout, stored: Mapping[str, str]) -> list[str]:
    """Return the class names by label index."""
    content = storage.read_bytes(storage.join(layout.artifacts, stored["classes"]), config.storage)
    return list(json.loads(content))


def _artifact(layout: Layout, config: Configuration, name: str, sha256: str) -> Artifact:
    content = storage.read_bytes(storage.join(layout.artifacts, sha256), config.storage)
    kinds = {feature.name: encoder_of(feature).ARTIFACT for feature in config.feature}
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
                artifacts={encoder.ARTIFACT: stored[feature.name]},
                vocabulary=encoder.vocabulary(artifact),
                separator=packed_tokens.separator(artifact) if feature is config.packed_feature() else None,
            )
        )
    if config.packed_feature() is not None:
        columns.append(
            Column(name=DOCUMENTS, role="documents", dtype="documents", shape=[], storage=str(DOCUMENTS_TYPE))
        )
    return columns


def packed_layout(config: Configuration, layout: Layout, stored: Mapping[str, str]) -> PackedLayout | None:
    """Return how rows are packed; None where each is a record."""
    feature = config.packed_feature()
    if feature is None:
        return None
    artifact = storage.read_bytes(storage.join(layout.artifacts, stored[feature.name]), config.storage)
    separator = packed_tokens.separator(artifact)
    assert separator is not None
    return PackedLayout.of(feature, separator)


def _split_content(
    split: str,
    written: Sequence[WrittenShard],
    classes: Sequence[str],
    of_split: ClassBalance,
    is_packed: bool,
    largest_group: int | None,
) -> SplitContent:
    mine = [shard for shard in written if shard.split == split]
    packing = [shard.packing for shard in mine if shard.packing is not None]
    labels = {
        name: sum(shard.label_counts.get(index, 0) for shard in mine) for index, name in enumerate(classes)
    }
    return SplitContent(
        rows=sum(shard.rows for shard in mine),
        key_sums=add_sums(shard.key_sums for shard in mine),
        label_counts=labels,
        balance=of_split,
        epoch_rows=sum(shard.epoch_rows for shard in mine),
        epoch_key_sums=add_sums(shard.epoch_key_sums for shard in mine),
        shards=[
            Shard(
                path=s.path,
                bytes=s.bytes,
                rows=s.rows,
                row_groups=s.row_groups,
                row_group_crc32=s.row_group_crc32,
                sha256=s.sha256,
                epoch_row_groups=s.epoch_row_groups,
                records=s.records,
                silo=s.silo,
            )
            for s in mine
        ],
        packing=added(packing) if is_packed else None,
        largest_group=largest_group,
    )


def largest_groups(
    spark: SparkSession, config: Configuration, layout: Layout, encoded: DataFrame
) -> dict[str, int]:
    """Return by split the most rows of `encoded` with an equal `columns.group`; {} where none is configured.

    A record without a value is a group of its own, as in the stage split.
    """
    if config.columns.group is None:
        return {}
    groups = read_table(spark, layout.fields).select("record_id", sf.col(config.columns.group).alias("group"))
    named = sf.coalesce(sf.concat(sf.lit("group "), "group"), sf.concat(sf.lit("record "), "record_id"))
    members = encoded.select("record_id", "split").join(groups, "record_id").groupBy("split", named).count()
    return {
        row["split"]: row["most"]
        for row in members.groupBy("split").agg(sf.max("count").alias("most")).collect()
    }


def source_list(spark: SparkSession, layout: Layout) -> tuple[Sources, bytes | None]:
    """Return the raw files for the manifest, and the content of the artifact that lists them where they are many."""
    rows = (
        read_table(spark, layout.sources).select("source_index", "source_path", "bytes", "sha256").collect()
    )
    files = sorted(
        (SourceEntry(source_index=r[0], path=r[1], bytes=r[2], sha256=r[3]) for r in rows),
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
