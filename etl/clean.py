"""Cleans the configured texts by the rules that are switched on, and notes what each of them did.

Rules annotate: every record of bronze is in `silver/fields` and has a row in the first `silver/ledger`; one that
meets a filter has the status `filtered` there, with the rule's name.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.delta_tables import read_table, table_version, write_table
from etl.rules.registry import Edit, Filter, build_rules
from etl.session import spark_progress
from etl.stage import stage_main
from schemas import tables
from schemas.command import run
from schemas.config import Configuration
from schemas.errors import CheckError


def clean(spark: SparkSession, config: Configuration) -> Mapping[str, int]:
    """Writes `silver/fields` and the first `silver/ledger`; returns the records, kept, filtered and edited ones."""
    layout = tables.Layout.of(config)
    build_rules(config.clean)  # a rule that cannot be built stops here, before anything runs
    records = read_table(spark, layout.records)
    facts = {"records_version": table_version(spark, layout.records), "rules": config.clean.active()}
    with spark_progress(spark, "cleaning"):
        version = write_table(
            with_cleaned_texts(records, config),
            layout.fields,
            tables.fields_schema(config),
            config,
            "clean",
            facts,
        )
    with spark_progress(spark, "writing the ledger"):
        fields = read_table(spark, layout.fields, version)
        write_table(first_ledger(fields), layout.ledger, tables.ledger_schema(), config, "clean", facts)
        counts = fields.agg(
            F.count("*").alias("records"),
            F.count_if(F.col("filtered_by").isNull()).alias("kept"),
            F.count_if(F.col("filtered_by").isNotNull()).alias("filtered"),
            F.count_if(F.size("effects") > 0).alias("edited"),
        ).first()
    assert counts is not None
    expected = records.count()
    if counts["records"] != expected:
        raise CheckError(
            f"{expected:,} records went into cleaning and {counts['records']:,} came out: please report this defect"
        )
    return counts.asDict()


def with_cleaned_texts(records: DataFrame, config: Configuration) -> DataFrame:
    """The columns of `silver/fields` from those of `bronze/records`."""
    schema = tables.fields_schema(config)
    added = ("filtered_by", "effects")
    names = [field.name for field in schema if field.name not in added]
    columns = [records[name] for name in names]
    return records.select(*columns).mapInArrow(CleanTexts(config), tables.spark_schema(schema))


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


class CleanTexts:
    """The function for `mapInArrow`: cleans the text columns of each batch and appends what was done."""

    def __init__(self, config: Configuration) -> None:
        self.config = config
        self.schema = tables.fields_schema(config)

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rules = RuleSet(self.config)
        text_columns = self.config.text_columns()
        for batch in batches:
            columns = {name: batch.column(place) for place, name in enumerate(batch.schema.names)}
            rows = zip(*(columns[name].to_pylist() for name in text_columns), strict=True)
            cleaned = [rules.apply(texts) for texts in rows]
            for place, name in enumerate(text_columns):
                columns[name] = pa.array([texts[place] for texts, _, _ in cleaned], pa.string())
            columns["filtered_by"] = pa.array([name for _, name, _ in cleaned], pa.string())
            columns["effects"] = pa.array(
                [effects for _, _, effects in cleaned], self.schema.field("effects").type
            )
            yield pa.RecordBatch.from_arrays(
                [columns[name] for name in self.schema.names], schema=self.schema
            )


class RuleSet:
    """The rules that are on, applied to the texts of one record at a time."""

    def __init__(self, config: Configuration) -> None:
        self.rules = build_rules(config.clean)
        # Asked once, not for every text: an abstract base class takes its time to answer.
        self.steps = [
            (
                name,
                rule.apply if isinstance(rule, Edit) else None,
                rule.drops if isinstance(rule, Filter) else None,
            )
            for name, rule in self.rules
        ]

    def apply(self, texts: Sequence[str]) -> tuple[list[str], str | None, list[dict[str, object]]]:
        """The cleaned texts, the first filter that any of them met, and the effects in the order of the rules."""
        now = list(texts)
        filtered_by: str | None = None
        effects: list[dict[str, object]] = []
        for name, edit, drops in self.steps:
            count = 0
            if edit is not None:
                for place, text in enumerate(now):
                    now[place], replaced = edit(text)
                    count += replaced
            elif drops is not None and any(map(drops, now)):
                count = 1
                filtered_by = filtered_by or name
            if count:
                effects.append({"rule": name, "count": count})
        return now, filtered_by, effects


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m etl.clean --config FILE`; returns the exit status."""
    return stage_main("clean", __doc__, clean, argv)


if __name__ == "__main__":
    sys.exit(run(main))
