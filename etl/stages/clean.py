"""Cleans the configured texts by the rules that are switched on, and notes what each of them did.

Rules annotate: every record of bronze is in `silver/fields` and has a row in the first `silver/ledger`; one that
meets a filter has the status `filtered` there, with the rule's name.
"""

import hashlib
import hmac
from collections.abc import Mapping

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from common.errors import CheckError
from etl.lake.log import Commit, identity
from etl.lake.tables import read_table, write_table
from etl.rules.applying import ADDED, CleanTexts
from etl.rules.personal_data import pseudonym_key
from etl.rules.registry import build_rules
from etl.rules.sampled_words import is_sampled, share_of
from etl.runs.completion import Stage, made_from
from etl.runs.increments import added_rows, new_rows
from etl.runs.state import fields_basis, ledger_to_go_on_from
from etl.spark.session import spark_progress
from schemas import tables
from schemas.config import Configuration
from schemas.tables import Layout


def clean(spark: SparkSession, config: Configuration) -> Mapping[str, int]:
    """Writes `silver/fields` and the first `silver/ledger`; returns the records, kept, filtered and edited ones."""
    layout = tables.Layout.of(config)
    key = pseudonym_key(config.clean)
    build_rules(config.clean)  # a rule that cannot be built stops here, before anything runs
    source = Commit.existing(layout.records, config.storage)
    basis = clean_basis(config, source.identity)
    records = read_table(spark, layout.records, source.version)
    expected = records.count()
    new = new_rows(spark, config, layout.fields, "clean", basis, "records", layout.records)
    standing = Commit.of(layout.fields, config.storage)
    facts = {"records_version": source.version, "rules": config.clean.active(), "made_from": basis}
    if config.increments.go_on and standing is not None and standing.is_by("clean", basis):
        version = standing.version  # a run that broke off had come so far
    else:
        # Of fewer records the more there are: what was noted of earlier ones is a part too many, which nobody reads.
        share = share_of_sample(spark, layout, expected)
        with spark_progress(spark, "cleaning"):
            version = write_table(
                with_cleaned_texts(records if new is None else new, config, key, share),
                layout.fields,
                tables.fields_schema(config),
                config,
                "clean",
                facts,
                append=new is not None,
            )
    fields = read_table(spark, layout.fields, version)
    with spark_progress(spark, "writing the ledger"):
        write_first_ledger(spark, config, fields, identity(layout.fields, config.storage, version), facts)
        counts = fields.agg(
            F.count("*").alias("records"),
            F.count_if(F.col("filtered_by").isNull()).alias("kept"),
            F.count_if(F.col("filtered_by").isNotNull()).alias("filtered"),
            F.count_if(F.size("effects") > 0).alias("edited"),
        ).first()
    assert counts is not None
    if counts["records"] != expected:
        raise CheckError(
            f"{expected:,} records went into cleaning and {counts['records']:,} came out: please report this defect"
        )
    return counts.asDict()


def write_first_ledger(
    spark: SparkSession,
    config: Configuration,
    fields: DataFrame,
    from_fields: str,
    facts: Mapping[str, object],
) -> None:
    """Writes silver/ledger as it is before duplicates are looked for.

    Where it knows all records but those that silver/fields has had added, and what became of them, only these come to
    it; the commit notes what the others' rows were made from, under `after`.
    """
    layout = Layout.of(config)
    noted = {**facts, "made_from": fields_basis("clean", config, from_fields)}
    after = ledger_to_go_on_from(config)
    rows = None
    if after is not None:
        rows = added_rows(
            spark, layout.fields, after.facts["made_from"]["fields"], from_fields, config.storage
        )
    if after is None or rows is None:
        write_table(first_ledger(fields), layout.ledger, tables.ledger_schema(), config, "clean", noted)
        return
    before = read_table(spark, layout.ledger, after.version)
    whole = before.unionByName(first_ledger(rows))
    noted["after"] = after.as_dict()
    write_table(whole, layout.ledger, tables.ledger_schema(), config, "clean", noted)


def share_of_sample(spark: SparkSession, layout: Layout, records: int) -> float:
    """Of the records whose words are noted, from their number and the bytes of the files that they were read from."""
    total = read_table(spark, layout.sources).where("status = 'read'").agg(F.sum("bytes")).first()
    assert total is not None
    return share_of(total[0] or 0, records)


def with_cleaned_texts(
    records: DataFrame, config: Configuration, key: bytes | None = None, words_share: float = 1.0
) -> DataFrame:
    """The columns of `silver/fields` from those of `bronze/records`; `key`: of pseudonyms, if there are any.

    `words_share`: of the records whose words are noted.
    """
    schema = tables.fields_schema(config)
    columns = [records[field.name] for field in schema if field.name not in ADDED]
    # Under the name of what it decides about, which no column of the user's can have.
    sampled = is_sampled(words_share).alias("sampled_words")
    return records.select(*columns, sampled).mapInArrow(CleanTexts(config, key), tables.spark_schema(schema))


def first_ledger(fields: DataFrame) -> DataFrame:
    """The rows of `silver/ledger` as they are before duplicates are looked for."""
    return fields.select(
        "record_id",
        F.col("source_path").alias("source"),
        F.when(F.col("filtered_by").isNull(), "kept").otherwise("filtered").alias("status"),
        F.col("filtered_by").alias("reason"),
        F.lit(None).cast("string").alias("cluster_id"),
        F.lit(None).cast("string").alias("split"),
    )


def clean_basis(config: Configuration, records: str) -> dict[str, object]:
    """Of `clean`, from the identity of bronze/records.

    Of the key of pseudonyms only a keyed hash of a constant stands in it, from which it cannot be found.
    """
    key = pseudonym_key(config.clean)
    check = None if key is None else hmac.new(key, b"ringlake", hashlib.sha256).hexdigest()[:16]
    return made_from("clean", config, records=records, key_check=check)


def cleaned(spark: SparkSession, config: Configuration) -> bool:
    """Whether `clean` is complete."""
    layout = Layout.of(config)
    records, fields, ledger = (
        Commit.of(uri, config.storage) for uri in (layout.records, layout.fields, layout.ledger)
    )
    if records is None or fields is None or ledger is None:
        return False
    # Whichever stage has written the ledger since: it began from these fields.
    if ledger.facts.get("made_from", {}).get("fields") != fields.identity:
        return False
    if not fields.is_by("clean", clean_basis(config, records.identity)):
        return False
    return read_table(spark, layout.fields).count() == read_table(spark, layout.records).count()


STAGE = Stage("clean", clean, lambda spark, config: {} if cleaned(spark, config) else None)
