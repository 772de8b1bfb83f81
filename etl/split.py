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
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from etl.completion import deduplicated_from, fields_basis, goes_on_from, identity, ledger_before_encode
from etl.delta_tables import commit_facts, read_table, table_version, write_table
from etl.duplicates.components import components
from etl.duplicates.later_records import SPLIT_CONFLICT
from etl.kept import kept
from etl.session import spark_progress
from etl.skew import hot_keys, salted_join
from etl.stage import stage_main
from schemas.command import run
from schemas.config import Configuration
from schemas.errors import UsageError
from schemas.settings import Split
from schemas.tables import SPLITS, Layout, ledger_schema

LARGE = 256  # a unit of more than 1/LARGE of its class is assigned one by one, on the driver
CARRIED = (
    500  # a class takes over at most 1/CARRIED of its rows (but always one row) from what the one before left
)
UNITS_ON_DRIVER = (
    250_000  # so many (some 50 MB) the driver assigns alone; of more, a task numbers about so many
)


RowsByClass = Mapping[str | None, Sequence[int]]
"""By class its rows, in the order of SPLITS."""
NOTHING_THERE: RowsByClass = MappingProxyType({})


@dataclass(frozen=True)
class Unit:
    """A unit that is assigned one by one."""

    name: str
    rows: int
    order: int


@dataclass(frozen=True)
class Cut:
    """How the small units of a class are divided: `shares` of their rows, in the order of SPLITS."""

    label: str | None
    shares: tuple[float, ...]

    def split_at(self, middle: float) -> str:
        """The split of a unit whose middle lies at `middle` of 0 to 1."""
        train, validation, test = self.shares
        if middle < train:
            return "train"
        if middle < train + validation:
            return "validation"
        # The last split that has a share takes what rounding leaves beyond the sum of the shares.
        return "test" if test > 0 else "validation" if validation > 0 else "train"


def split(spark: SparkSession, config: Configuration) -> Mapping[str, int]:
    """Writes silver/ledger with `split`; returns the number of records of each split, and `salted_keys` if any."""
    layout = Layout.of(config)
    # Without what `encode` left out since as outliers, by what another split taught.
    ledger = read_table(spark, layout.ledger, ledger_before_encode(spark, config)[0])
    made_before = commit_facts(spark, layout.ledger)
    version = table_version(spark, layout.fields)
    fields = read_table(spark, layout.fields, version)
    going_on = goes_on_from(spark, config, made_before, identity(spark, layout.fields, version))
    if going_on is not None:
        return split_later(spark, config, ledger, fields, *going_on, made_before["made_from"])
    if made_before.get("conflicts"):
        raise UsageError(
            f"{layout.ledger} has records that were left out because of the split that there is, and that lost their "
            "cluster: run the stage deduplicate with --again first, then this one"
        )
    with spark_progress(spark, "split"):
        found, salted = with_unit(ledger, fields, config)
        with kept(found) as members, kept(count_units(members, config.split.seed)) as units:
            # What was dropped has no unit: without salt all of it would go to one task.
            hot = hot_keys(units.select("unit", "rows"), members.where("unit IS NULL").count())
            result = salted_join(members, assign(units, config.split), "unit", "left", hot, "record_id")
            facts = {
                "made_from": fields_basis("split", config, identity(spark, layout.fields, version)),
                "deduplicated": deduplicated_from(made_before),
            }
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
                    "made_from": fields_basis("split", config, identity(spark, layout.fields)),
                    "deduplicated": deduplicated,
                    # All ledgers whose rows are in this one as they were.
                    "follows": [*after["facts"].get("follows", []), after["ledger"]],
                    "conflicts": whole.where(F.col("reason") == SPLIT_CONFLICT).count(),
                }
                write_table(whole, layout.ledger, ledger_schema(), config, "split", facts)
    return rows_by_split(read_table(spark, layout.ledger)) | ({"salted_keys": salted} if salted else {})


def anchors(members: DataFrame, earlier: DataFrame, fields: DataFrame, config: Configuration) -> DataFrame:
    """For each unit of new records that has something in common with earlier ones: `unit`, and their `splits`."""
    placed = earlier.where("split IS NOT NULL").select(
        "record_id", F.col("cluster_id").alias("cluster"), F.col("split").alias("of_split")
    )
    kept_members = members.where("unit IS NOT NULL")
    found = kept_members.join(placed.select("cluster", "of_split").distinct(), "cluster").select(
        "unit", "of_split"
    )
    if config.columns.group is not None:
        groups = fields.select("record_id", F.col(config.columns.group).alias("group"))
        of_groups = groups.join(placed, "record_id").select("group", "of_split").distinct()
        found = found.unionByName(kept_members.join(of_groups, "group").select("unit", "of_split"))
    return found.groupBy("unit").agg(F.sort_array(F.collect_set("of_split")).alias("splits"))


def rows_by_class(earlier: DataFrame, fields: DataFrame, config: Configuration) -> RowsByClass:
    """The rows of earlier records by class, then in the order of SPLITS."""
    placed = earlier.where("split IS NOT NULL").select("record_id", "split")
    label = config.columns.label
    if label is None:
        labelled = placed.withColumn("label", F.lit(None).cast("string"))
    else:
        labelled = placed.join(fields.select("record_id", F.col(label).alias("label")), "record_id")
    found: dict[str | None, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in labelled.groupBy("label", "split").count().collect():
        found[row["label"]][SPLITS.index(row["split"])] = int(row["count"])
    return found


def rows_by_split(ledger: DataFrame) -> dict[str, int]:
    """The number of records in each split."""
    counted = ledger.where("split IS NOT NULL").groupBy("split").count()
    rows = {row["split"]: int(row["count"]) for row in counted.collect()}
    return {name: rows.get(name, 0) for name in SPLITS}


def with_unit(ledger: DataFrame, fields: DataFrame, config: Configuration) -> tuple[DataFrame, int]:
    """The ledger without `split`, with `label` (null where none is configured) and the `unit` of each kept record.

    The second value is the number of hot keys that were salted on the way.
    """
    label, group = config.columns.label, config.columns.group
    members = ledger.drop("split").withColumn(
        "cluster", F.when(F.col("status") == "kept", F.col("cluster_id"))
    )
    none = F.lit(None).cast("string")
    if label is None and group is None:
        return members.withColumn("label", none).withColumn("unit", F.col("cluster")), 0
    roles = fields.select(
        "record_id",
        (none if label is None else F.col(label)).alias("label"),
        (none if group is None else F.col(group)).alias("group"),
    )
    members = members.join(roles, "record_id", how="left")
    if group is None:
        return members.withColumn("unit", F.col("cluster")), 0
    # Each group's smallest cluster stands for it: clusters with a common group are connected with that one.
    grouped = members.where("group IS NOT NULL AND cluster IS NOT NULL").select("group", "cluster").distinct()
    with kept(grouped):
        counted = grouped.groupBy("group").agg(
            F.count("*").alias("clusters"), F.min("cluster").alias("first")
        )
        hot_groups = hot_keys(counted.select("group", "clusters"))
        connected = components(
            salted_join(grouped, counted, "group", "inner", hot_groups, "cluster").select("cluster", "first")
        ).withColumnRenamed("member", "cluster")
    sizes = ledger.where("status = 'kept'").groupBy(F.col("cluster_id").alias("cluster")).count()
    hot = hot_keys(sizes, ledger.where("status <> 'kept'").count())
    joined = salted_join(members, connected, "cluster", "left", hot, "record_id")
    return joined.withColumn("unit", F.coalesce("component", "cluster")), len(hot_groups) + len(hot)


def count_units(members: DataFrame, seed: int) -> DataFrame:
    """Columns `unit`, `label` (that of most of its rows; of equals the smallest), `rows`, `order` (a hash)."""
    by_label = members.where("unit IS NOT NULL").groupBy("unit", "label").agg(F.count("*").alias("rows"))
    most = F.min(F.struct(-F.col("rows"), F.col("label")))
    return (
        by_label.groupBy("unit")
        .agg(most["label"].alias("label"), F.sum("rows").alias("rows"))
        .withColumn("order", F.xxhash64(F.lit(seed), "unit"))
    )


def assign(
    units: DataFrame,
    settings: Split,
    units_on_driver: int = UNITS_ON_DRIVER,
    there: RowsByClass = NOTHING_THERE,
) -> DataFrame:
    """Columns `unit`, `split` from `unit`, `label`, `rows`, `order`; both ways give the same.

    `there`: rows that have a split already, beside which these are to come to the proportions of the configuration.
    """
    if units.count() <= units_on_driver:
        return _assign_on_driver(units, settings, there)
    return _assign_on_cluster(units, settings, units_on_driver, there)


def _assign_on_driver(units: DataFrame, settings: Split, there: RowsByClass) -> DataFrame:
    by_label: dict[str | None, list[Unit]] = defaultdict(list)
    for row in units.select("label", "unit", "rows", "order").toArrow().to_pylist():
        by_label[row["label"]].append(Unit(row["unit"], row["rows"], row["order"]))
    totals = {label: sum(unit.rows for unit in members) for label, members in by_label.items()}
    large = {
        label: [unit for unit in members if unit.rows * LARGE > totals[label]]
        for label, members in by_label.items()
    }
    chosen, cuts = divide(totals, large, settings, there)
    for cut in cuts:
        small = sorted(
            (unit for unit in by_label[cut.label] if unit.name not in chosen),
            key=lambda unit: (unit.order, unit.name),
        )
        total, until = sum(unit.rows for unit in small), 0
        for unit in small:
            until += unit.rows
            chosen[unit.name] = cut.split_at((until - unit.rows / 2) / total)
    return _as_frame(units.sparkSession, chosen)


def _as_frame(spark: SparkSession, chosen: Mapping[str, str]) -> DataFrame:
    names = sorted(chosen)
    table = pa.table(
        {
            "unit": pa.array(names, pa.string()),
            "split": pa.array([chosen[name] for name in names], pa.string()),
        }
    )
    return spark.createDataFrame(table)


def _assign_on_cluster(
    units: DataFrame, settings: Split, units_of_a_slice: int, there: RowsByClass
) -> DataFrame:
    spark = units.sparkSession
    classes = units.groupBy("label").agg(F.sum("rows").alias("whole"), F.count("*").alias("units"))
    totals = {row["label"]: (int(row["whole"]), int(row["units"])) for row in classes.collect()}
    # There are as many classes as the driver has just collected, and one may hold nearly all units.
    sized = units.join(
        F.broadcast(classes.select(F.col("label").alias("of"), "whole")),
        F.col("label").eqNullSafe(F.col("of")),
        how="inner",
    ).withColumn("large", F.col("rows") * LARGE > F.col("whole"))
    large = {
        label: [Unit(row["unit"], int(row["rows"]), int(row["order"])) for row in rows]
        for label, rows in groupby(
            sorted(
                sized.where("large").select("label", "unit", "rows", "order").collect(),
                key=lambda row: (row["label"] is not None, row["label"] or ""),
            ),
            key=lambda row: row["label"],
        )
    }
    chosen, cuts = divide({label: whole for label, (whole, _) in totals.items()}, large, settings, there)
    one_by_one = _as_frame(spark, chosen)
    if not cuts:
        return one_by_one
    slices = max(1, max(count for _, count in totals.values()) // units_of_a_slice)
    placed = with_middle(sized.where("NOT large"), slices)
    shares = spark.createDataFrame(
        [(cut.label, *cut.shares) for cut in cuts],
        "cut_label string, train double, validation double, test double",
    )
    same_class = F.col("label").eqNullSafe(F.col("cut_label"))
    cut_up = placed.join(F.broadcast(shares), same_class, how="inner").select(
        "unit",
        F.when(F.col("middle") < F.col("train"), "train")
        .when(F.col("middle") < F.col("train") + F.col("validation"), "validation")
        .when(F.col("test") > 0, "test")
        .when(F.col("validation") > 0, "validation")
        .otherwise("train")
        .alias("split"),
    )
    return cut_up.unionByName(one_by_one)


def with_middle(units: DataFrame, slices: int) -> DataFrame:
    """Adds `middle`: where the middle of a unit lies, from 0 to 1, when a class's units are laid end to end by hash.

    A class is cut into `slices` ranges of the hash, numbered one by one, so that no task has to sort a whole class.
    """
    # Rounding does no harm: a larger hash never gets an earlier slice, and within a slice the hash itself decides.
    place = F.floor((F.col("order").cast("double") / F.lit(2.0**64) + 0.5) * slices)
    sliced = units.withColumn("slice", F.least(place, F.lit(slices - 1)))
    before = Window.partitionBy("label").orderBy("slice").rowsBetween(Window.unboundedPreceding, -1)
    starts = (
        sliced.groupBy("label", "slice")
        .agg(F.sum("rows").alias("slice_rows"))
        .withColumn("start", F.coalesce(F.sum("slice_rows").over(before), F.lit(0)))
        .withColumn("total", F.sum("slice_rows").over(Window.partitionBy("label")))
        .select(F.col("label").alias("start_label"), F.col("slice").alias("start_slice"), "start", "total")
    )
    within = (
        Window.partitionBy("label", "slice")
        .orderBy("order", "unit")
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    same = F.col("label").eqNullSafe(F.col("start_label")) & (F.col("slice") == F.col("start_slice"))
    return (
        sliced.withColumn("until", F.sum("rows").over(within))
        .join(starts, same, how="inner")
        .withColumn("middle", (F.col("start") + F.col("until") - F.col("rows") / 2) / F.col("total"))
        .drop("start_label", "start_slice")
    )


def divide(
    totals: Mapping[str | None, int],
    large: Mapping[str | None, Iterable[Unit]],
    settings: Split,
    there: RowsByClass = NOTHING_THERE,
) -> tuple[dict[str, str], list[Cut]]:
    """The splits of the large units, by name, and for each class with others how these are cut.

    `totals`: rows of each class, large units included. `there`: those that have a split already.
    """
    shares = [settings.train, settings.validation, settings.test]
    open_splits = [i for i, share in enumerate(shares) if share > 0]
    least = min(shares[i] for i in open_splits)
    carried = [0.0, 0.0, 0.0]
    chosen: dict[str, str] = {}
    cuts = []
    # The largest class first: what it leaves is nothing beside the others' sizes.
    for label in sorted(totals, key=lambda name: (-totals[name], name is not None, name or "")):
        most_carried = max(1.0, totals[label] / CARRIED)
        placed = there.get(label, (0, 0, 0))
        whole = totals[label] + sum(placed)
        lacking = [
            whole * share - rows + min(max(rest, -most_carried), most_carried)
            for share, rows, rest in zip(shares, placed, carried, strict=True)
        ]
        units = sorted(large.get(label, ()), key=lambda unit: (unit.order, unit.name))
        # What would fill half of a split is placed while there is room; size decides nothing about the others.
        units.sort(key=lambda unit: -unit.rows if 2 * unit.rows > totals[label] * least else 0)
        for unit in units:
            here = max(open_splits, key=lambda i: lacking[i])
            chosen[unit.name] = SPLITS[here]
            lacking[here] -= unit.rows
        small = totals[label] - sum(unit.rows for unit in units)
        if small:
            wanted = [max(0.0, lacking[i]) if i in open_splits else 0.0 for i in range(len(SPLITS))]
            cut = tuple(amount / sum(wanted) for amount in wanted)
            cuts.append(Cut(label, cut))
            lacking = [rest - small * share for rest, share in zip(lacking, cut, strict=True)]
        carried = lacking
    return chosen, cuts


def main(argv: Sequence[str] | None = None) -> int:
    return stage_main("split", __doc__, split, argv)


if __name__ == "__main__":
    sys.exit(run(main))
