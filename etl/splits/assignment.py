"""Assignment of units to splits: classes are divided in proportion, large units one by one, the others by hash."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from schemas.settings import Split
from schemas.tables import SPLITS

LARGE = 256  # a unit of more than 1/LARGE of its class is assigned one by one, on the driver
CARRIED = (
    500  # a class takes over at most 1/CARRIED of its rows (but always one) from what the previous one left
)
UNITS_ON_DRIVER = 250_000
"""Units (some 50 MB) that the driver assigns alone; of more, a task numbers about so many."""

RowsByClass = Mapping[str | None, Sequence[int]]
"""Rows by class, in the order of SPLITS."""
NOTHING_THERE: RowsByClass = MappingProxyType({})


@dataclass(frozen=True)
class Unit:
    """Unit that is assigned one by one."""

    name: str
    rows: int
    order: int


@dataclass(frozen=True)
class Cut:
    """Division of a class's small units: `shares` of their rows, in the order of SPLITS."""

    label: str | None
    shares: tuple[float, ...]

    def split_at(self, middle: float) -> str:
        """Return the split of a unit whose middle lies at `middle` of 0 to 1."""
        train, validation, test = self.shares
        if middle < train:
            return "train"
        if middle < train + validation:
            return "validation"
        # The last split with a share takes what rounding leaves beyond the sum of the shares.
        return "test" if test > 0 else "validation" if validation > 0 else "train"


def assign(
    units: DataFrame,
    settings: Split,
    units_on_driver: int = UNITS_ON_DRIVER,
    there: RowsByClass = NOTHING_THERE,
) -> DataFrame:
    """Return columns `unit`, `split` from `unit`, `label`, `rows`, `order`; both paths give equal results.

    `there`: rows that have a split already, which count towards the configured proportions.
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
    """Add `middle`: the position of a unit's middle, from 0 to 1, when a class's units are laid end to end by hash.

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
    """Return the splits of the large units, by name, and the cut of the small units of each class that has any.

    `totals`: rows of each class, large units included. `there`: rows that have a split already.
    """
    shares = [settings.train, settings.validation, settings.test]
    open_splits = [i for i, share in enumerate(shares) if share > 0]
    least = min(shares[i] for i in open_splits)
    carried = [0.0, 0.0, 0.0]
    chosen: dict[str, str] = {}
    cuts = []
    # The largest class first: its remainder is nothing beside the others' sizes.
    for label in sorted(totals, key=lambda name: (-totals[name], name is not None, name or "")):
        most_carried = max(1.0, totals[label] / CARRIED)
        placed = there.get(label, (0, 0, 0))
        whole = totals[label] + sum(placed)
        lacking = [
            whole * share - rows + min(max(rest, -most_carried), most_carried)
            for share, rows, rest in zip(shares, placed, carried, strict=True)
        ]
        units = sorted(large.get(label, ()), key=lambda unit: (unit.order, unit.name))
        # A unit that would fill half of a split is placed while there is room; size decides nothing about the others.
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
