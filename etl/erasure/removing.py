"""Removal of records from the tables of bronze and silver, which stay complete where they were.

Only the files that hold such records are rewritten. Tombstones come first: an interrupted removal leaves tables that
the next run of the pipeline rebuilds, without the erased records.
"""

import json
from collections.abc import Mapping
from datetime import datetime

import pyarrow as pa
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from common.storage import Storage
from etl.erasure.finding import SILVER_TABLES, Erasure, Place
from etl.lake.facts import FACTS, CommitFacts, LedgerFacts, RecordsFacts
from etl.lake.log import Commit, identity
from etl.lake.tables import PROPERTIES, committing_always, configured, read_table
from etl.lake.tombstones import FORGOTTEN, FORGOTTEN_DETAIL, Tombstones
from etl.splits.earlier_records import splits_to_stay
from schemas.config import Configuration
from schemas.tables import Layout, quarantine_schema, tombstones_schema

METADATA = "spark.databricks.delta.commitInfo.userMetadata"
DAMAGE = ("unreadable_file", "too_large_content", "outside_of_source")
"""Reasons in the quarantine of rows that stand for a file, or the rest of one."""
PLACE = ("source_index", "source_path", "source_position")


def bury(spark: SparkSession, layout: Layout, new: Tombstones, moment: datetime) -> None:
    """Add tombstones to bronze/tombstones."""
    rows = [
        {"kind": kind, "sha256": sha256.hex(), "forgotten": moment}
        for kind, found in new.by_kind().items()
        for sha256 in sorted(found)
    ]
    if not rows:
        return
    writer = spark.createDataFrame(pa.Table.from_pylist(rows, schema=tombstones_schema())).write.format(
        "delta"
    )
    for key, value in PROPERTIES.items():
        writer = writer.option(key, value)
    writer.mode("append").option("userMetadata", json.dumps({"stage": "forget"})).save(layout.tombstones)


def remove(
    spark: SparkSession, config: Configuration, erasure: Erasure, before: Tombstones, tombstones: Tombstones
) -> None:
    """Remove the records that were found; the arguments are the previous tombstones and the current ones."""
    layout, options = Layout.of(config), config.storage
    uris = {name: layout.at("bronze", name) for name in ("sources", "quarantine", "records")}
    uris |= {name: layout.at("silver", name) for name in SILVER_TABLES}
    found = {name: Commit.of(uri, options) for name, uri in uris.items()}
    commits = {name: commit for name, commit in found.items() if commit is not None}
    uris = {name: uris[name] for name in commits}
    facts = {name: commit.facts(FACTS[name]) for name, commit in commits.items()}
    identities = {name: commit.identity for name, commit in commits.items()}
    with configured(spark, METADATA, json.dumps({"stage": "forget"})):
        _remove(spark, uris, erasure)
    # Where an earlier `forget` broke off, its records may still be there: then nothing is complete.
    records = commits["records"].facts(RecordsFacts)
    if records is None or records.tables != {name: identities[name] for name in ("sources", "quarantine")}:
        return
    if records.fingerprint.inputs["tombstones"] == before.fingerprint():
        _restate(spark, uris, facts, identities, erasure, tombstones, options)


def _remove(spark: SparkSession, uris: Mapping[str, str], erasure: Erasure) -> None:
    places = _frame(spark, [*erasure.quarantined])
    if erasure.quarantined:
        # A row that reports the rest of a file as unreadable goes on doing so, without the bytes.
        is_damage = F.col("t.reason").isin(*DAMAGE)
        erased = {
            "reason": F.when(is_damage, F.col("t.reason")).otherwise(FORGOTTEN),
            "detail": F.when(is_damage, F.col("t.detail")).otherwise(FORGOTTEN_DETAIL),
            "raw": F.when(is_damage, F.unhex(F.lit(""))),
        }
        same = " AND ".join(f"t.{name} <=> s.{name}" for name in PLACE)
        DeltaTable.forPath(spark, uris["quarantine"]).alias("t").merge(
            F.broadcast(places).alias("s"), f"{same} AND t.raw IS NOT NULL"
        ).whenMatchedUpdate(set=erased).execute()  # type: ignore[arg-type]
    if erasure.records:
        _stand_in(spark, uris, erasure)
    splits = _splits_of(spark, uris, erasure)
    erased_ids = {
        "record_id": pa.array(sorted(erasure.ids), pa.string()),
        "split": pa.array([splits.get(name) for name in sorted(erasure.ids)], pa.string()),
    }
    ids = F.broadcast(spark.createDataFrame(pa.table(erased_ids)))
    # `fields` last: by a pseudonym only this table tells whose records those are, should this break off.
    for name in ("signatures", "encoded", "clusters", "ledger", "records", "fields"):
        if name in erasure.left or (name == "records" and erasure.records):
            table = DeltaTable.forPath(spark, uris[name]).alias("t")
            table.merge(ids.alias("s"), "t.record_id = s.record_id").whenMatchedDelete().execute()
        if name in erasure.left and name in ("clusters", "ledger"):
            # Duplicates of such a record name it; the next `deduplicate` decides which survives in its place and its
            # split.
            none = F.lit(None).cast("string")
            named = {"reason": none, "cluster_id": none}
            if name == "ledger":
                named["split"] = F.coalesce("t.split", "s.split")
            DeltaTable.forPath(spark, uris[name]).alias("t").merge(
                ids.alias("s"), "t.cluster_id = s.record_id"
            ).whenMatchedUpdate(set=named).execute()  # type: ignore[arg-type]


def _splits_of(spark: SparkSession, uris: Mapping[str, str], erasure: Erasure) -> dict[str, str | None]:
    """Return the splits of the erased records by id."""
    if "ledger" not in erasure.left:
        return {}
    rows = read_table(spark, uris["ledger"]).where(F.col("record_id").isin(sorted(erasure.ids)))
    return {row["record_id"]: row["split"] for row in rows.select("record_id", "split").collect()}


def _stand_in(spark: SparkSession, uris: Mapping[str, str], erasure: Erasure) -> None:
    """Add the rows of the quarantine that stand for the records, and count them with their files."""
    # First the rows that stand for them: then every record that was read is always in one of the two tables or in
    # both.
    gone = _frame(spark, [*erasure.records.values()])
    rows = gone.select(
        *PLACE,
        F.lit(FORGOTTEN).alias("reason"),
        F.lit(FORGOTTEN_DETAIL).alias("detail"),
        F.lit(None).cast("binary").alias("raw"),
    )
    names = [field.name for field in quarantine_schema()]
    rows.select(names).write.format("delta").mode("append").save(uris["quarantine"])
    per_file = gone.groupBy("source_index", "source_path").agg(F.count("*").alias("forgotten"))
    DeltaTable.forPath(spark, uris["sources"]).alias("t").merge(
        F.broadcast(per_file).alias("s"), "t.source_index = s.source_index AND t.source_path = s.source_path"
    ).whenMatchedUpdate(set={"quarantined": F.col("t.quarantined") + F.col("s.forgotten")}).execute()


def _frame(spark: SparkSession, places: list[Place]) -> DataFrame:
    rows = [(place.source_index, place.source_path, place.source_position) for place in sorted(places)]
    return spark.createDataFrame(rows, "source_index int, source_path string, source_position bigint")


def _restate(
    spark: SparkSession,
    uris: Mapping[str, str],
    facts: Mapping[str, CommitFacts | None],
    before: Mapping[str, str],
    erasure: Erasure,
    tombstones: Tombstones,
    options: Storage,
) -> None:
    """Record in the tables that were complete that they still are, computed from the remaining rows.

    Stages that treat each record alone (`ingest`, `clean`) would give the other records the same rows again. Results
    of comparing records do not carry over: `deduplicate` and the stages after it have to run.
    """
    changed = bool(erasure.records or erasure.left)
    replaced: dict[str, str] = {}
    for name in ("sources", "quarantine"):
        if name in uris:
            replaced[before[name]] = identity(uris[name], options)
    for name in ("records", *SILVER_TABLES):
        found = facts.get(name)
        if found is None or (changed and name in ("signatures", "clusters", "encoded")):
            continue
        noted: CommitFacts | None = found.with_identities(replaced)
        if isinstance(noted, RecordsFacts):
            inputs = {**noted.fingerprint.inputs, "tombstones": tombstones.fingerprint()}
            fingerprint = noted.fingerprint.model_copy(update={"inputs": inputs})
            counts = _counts(spark, uris, noted.counts)
            noted = noted.model_copy(update={"fingerprint": fingerprint, "counts": counts})
        if changed and isinstance(noted, LedgerFacts):
            noted = splits_to_stay(noted)
        if noted is not None:
            _note(spark, uris[name], noted)
            replaced[before[name]] = identity(uris[name], options)


def _counts(spark: SparkSession, uris: Mapping[str, str], counts: Mapping[str, int]) -> dict[str, int]:
    """Return the counts of `ingest` as they are now."""
    quarantine = read_table(spark, uris["quarantine"])
    return {
        **counts,
        "quarantined": quarantine.count(),
        "records": read_table(spark, uris["records"]).count(),
        "forgotten": quarantine.where(F.col("reason") == FORGOTTEN).count(),
    }


def _note(spark: SparkSession, uri: str, facts: CommitFacts) -> None:
    """Commit new facts without changing the content of the table."""
    empty = read_table(spark, uri).limit(0)
    # Delta skips commits without files unless it is told not to.
    with committing_always(spark):
        empty.write.format("delta").mode("append").option("userMetadata", facts.to_json()).save(uri)
