"""Assigns training, validation and test: never by row, always by cluster of duplicates and by group.

Reads silver/ledger and the label and group of silver/fields; writes silver/ledger again, with `split` for every kept
record.

- A unit is what has to stay together: the records that are connected by a common `cluster_id` or a common value of
  `columns.group`. It is named by its smallest cluster_id, and ordered by the hash of that name and `split.seed`; so the
  result depends on the records and the seed, not on their order or partitioning.
- Each class is divided on its own in the proportions of the configuration (a unit belongs to the class of most of its
  records). Within a class, a unit of more than 1/256 of it is given to the split that lacks most; the others are
  laid end to end by hash and cut where the proportions say. What a class is left with by rounding is passed on
  to the next class, so that many small classes do not all fall to training.
- New records are divided beside those that there are, and after an erasure records keep the split that they had
  (etl/splits/earlier_records.py).
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from common.command import run
from common.errors import UsageError
from etl.duplicates.later_records import SPLIT_CONFLICT
from etl.lake.log import Commit, commit_facts, identity
from etl.lake.tables import read_table, write_table
from etl.runs.completion import deduplicated_from, fields_basis, goes_on_from, ledger_before_encode
from etl.runs.stage import stage_main
from etl.spark.persist import kept
from etl.spark.session import spark_progress
from etl.spark.skew import hot_keys, salted_join
from etl.splits.assignment import assign
from etl.splits.earlier_records import STAYING, anchors, rows_by_class, splits_stay, units_that_stay
from etl.splits.units import count_units, with_unit
from schemas.config import Configuration
from schemas.tables import SPLITS, Layout, ledger_schema


def split(spark: SparkSession, config: Configuration) -> Mapping[str, int]:
    """Writes silver/ledger with `split`; returns the number of records of each split, and `salted_keys` if any."""
    layout = Layout.of(config)
    # Without what `encode` left out since as outliers, by what another split taught.
    ledger = read_table(spark, layout.ledger, ledger_before_encode(config)[0])
    made_before = commit_facts(layout.ledger, config.storage)
    source = Commit.existing(layout.fields, config.storage)
    fields = read_table(spark, layout.fields, source.version)
    going_on = goes_on_from(spark, config, made_before, source.identity)
    if going_on is not None:
        return split_later(spark, config, ledger, fields, *going_on, made_before["made_from"])
    if made_before.get("conflicts"):
        raise UsageError(
            f"{layout.ledger} has records that were left out because of the split that there is, and that lost their "
            "cluster: run the stage deduplicate with --again first, then this one"
        )
    with spark_progress(spark, "split"):
        found, salted = with_unit(ledger, fields, config)
        with ExitStack() as stack:
            members = stack.enter_context(kept(found))
            units = stack.enter_context(kept(count_units(members, config.split.seed)))
            # What was dropped has no unit: without salt all of it would go to one task.
            hot = hot_keys(units.select("unit", "rows"), members.where("unit IS NULL").count())
            if splits_stay(made_before, config):
                staying = stack.enter_context(kept(units_that_stay(members, ledger)))
                others = units.join(staying.select("unit"), "unit", "left_anti")
                there = rows_by_class(ledger, fields, config)
                assigned = assign(others, config.split, there=there).unionByName(staying)
            else:
                assigned = assign(units, config.split)
            result = salted_join(members, assigned, "unit", "left", hot, "record_id")
            facts: dict[str, object] = {
                "made_from": fields_basis("split", config, source.identity),
                "deduplicated": deduplicated_from(made_before),
            }
            if STAYING in made_before and facts["deduplicated"] is None:
                facts[STAYING] = made_before[STAYING]  # `deduplicate` is still to come
            write_table(result, layout.ledger, ledger_schema(), config, "split", facts)
        rows = rows_by_split(read_table(spark, layout.ledger))
    salted += len(hot)
    return rows | ({"salted_keys": salted} if salted else {})


def split_later(
    spark: SparkSession,
    config: Configuration,
    ledger: DataFrame,
    fields: DataFrame,
    after: Mapping[str, Any],
    new: DataFrame,
    deduplicated: object,
) -> Mapping[str, int]:
    """The same for the records that have come to the ledger since the version that `after` names; the others stay.

    `new`: the rows that silver/fields has had added. A new unit goes to the split of the earlier records that it
    shares a cluster or a group with; where these lie in several, it is left out (`filtered`, reason SPLIT_CONFLICT).
    """
    layout = Layout.of(config)
    earlier = read_table(spark, layout.ledger, after["version"])
    with spark_progress(spark, "split"):
        found, salted = with_unit(ledger.join(new.select("record_id"), "record_id", "left_semi"), new, config)
        with kept(found) as members, kept(anchors(members, earlier, fields, config)) as anchored:
            free = members.join(anchored.select("unit"), "unit", "left_anti")
            there = rows_by_class(earlier, fields, config)
            with kept(count_units(free, config.split.seed)) as units:
                assigned = assign(units, config.split, there=there).withColumnRenamed("split", "assigned")
                placed = members.join(anchored, "unit", "left").join(assigned, "unit", "left")
                conflict = F.size("splits") > 1
                later = placed.select(
                    "record_id",
                    "source",
                    F.when(conflict, "filtered").otherwise(F.col("status")).alias("status"),
                    F.when(conflict, SPLIT_CONFLICT).otherwise(F.col("reason")).alias("reason"),
                    F.when(conflict, F.lit(None)).otherwise(F.col("cluster_id")).alias("cluster_id"),
                    F.when(F.size("splits") == 1, F.col("splits")[0])
                    .when(conflict, F.lit(None))
                    .otherwise(F.col("assigned"))
                    .alias("split"),
                )
                whole = earlier.unionByName(later)
                facts = {
                    "made_from": fields_basis("split", config, identity(layout.fields, config.storage)),
                    "deduplicated": deduplicated,
                    # All ledgers whose rows are in this one as they were.
                    "follows": [*after["facts"].get("follows", []), after["ledger"]],
                    "conflicts": int(after["facts"].get("conflicts", 0)) + conflicts(members, later, config),
                }
                write_table(whole, layout.ledger, ledger_schema(), config, "split", facts)
    return rows_by_split(read_table(spark, layout.ledger)) | ({"salted_keys": salted} if salted else {})


def conflicts(members: DataFrame, later: DataFrame, config: Configuration) -> int:
    """The number of records that only the splits of others keep out: with other splits they would come in.

    Where duplicates are dropped, what is near to several clusters would be left out with any splits.
    """
    found = later.where(F.col("reason") == SPLIT_CONFLICT)
    if config.deduplicate.duplicates == "drop":
        out_anyway = members.where(F.col("reason") == SPLIT_CONFLICT).select("record_id")
        found = found.join(out_anyway, "record_id", "left_anti")
    return found.count()


def rows_by_split(ledger: DataFrame) -> dict[str, int]:
    """The number of records in each split."""
    counted = ledger.where("split IS NOT NULL").groupBy("split").count()
    rows = {row["split"]: int(row["count"]) for row in counted.collect()}
    return {name: rows.get(name, 0) for name in SPLITS}


def main(argv: Sequence[str] | None = None) -> int:
    return stage_main("split", __doc__, split, argv)


if __name__ == "__main__":
    sys.exit(run(main))
