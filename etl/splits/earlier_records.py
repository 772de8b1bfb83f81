"""The records that have a split already: what others share with them, how many there are, and when it stays.

An increment leaves all of them where they are. After an erasure the ledger is made anew, since others may take the
place of what was erased; but records that are published again keep their split: nothing that a training has seen comes
into the test split, or the other way round. So `forget` leaves the splits in silver/ledger, and `split` goes by them.
"""

from collections import defaultdict

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from etl.lake.facts import LedgerFacts
from etl.runs.finished import is_as_today
from etl.splits.assignment import RowsByClass
from schemas.config import Configuration
from schemas.tables import SPLITS


def splits_to_stay(ledger: LedgerFacts | None) -> LedgerFacts | None:
    """What `forget` notes, from the facts of the ledger that it finds; None where its splits are not to stay.

    Records that were left out for the splits of others (SPLIT_CONFLICT) come back when the ledger is made anew, and
    what they have in common with several splits is in the way of these.
    """
    if ledger is None or ledger.conflicts:
        return None
    return ledger.model_copy(update={"stage": "forget"})


def splits_stay(ledger: LedgerFacts, config: Configuration) -> bool:
    """Whether the splits of a ledger with these facts are to stay when it is made anew."""
    return config.increments.go_on and ledger.stage == "forget" and is_as_today("split", config, ledger)


def with_splits_of(clusters: DataFrame, earlier: DataFrame) -> DataFrame:
    """The rows of silver/clusters made anew, with the split that `earlier` gives for each record that is kept.

    That of its own, or of the cluster that it was in: another record may survive there than before.
    """
    had = earlier.select("record_id", F.col("split").alias("own"), F.col("cluster_id").alias("former"))
    of_cluster = (
        earlier.where("split IS NOT NULL AND cluster_id IS NOT NULL")
        .groupBy(F.col("cluster_id").alias("former"))
        .agg(F.min("split").alias("of_cluster"))  # they all have the same
    )
    split = F.when(F.col("status") == "kept", F.coalesce("own", "of_cluster")).alias("split")
    return (
        clusters.join(had, "record_id", "left")
        .join(of_cluster, "former", "left")
        .select(*clusters.columns, split)
    )


def units_that_stay(members: DataFrame, ledger: DataFrame) -> DataFrame:
    """Columns `unit`, `splits` of each unit with records that have a split in the ledger, which is one.

    It is one, but where a record that takes another's place is of a group in another split: then what may have been
    trained on stays in the training split.
    """
    in_order = F.array(*map(F.lit, SPLITS))
    had = ledger.where("split IS NOT NULL").select("record_id", "split")
    return (
        members.where("unit IS NOT NULL")
        .select("record_id", "unit")
        .join(had, "record_id")
        .groupBy("unit")
        .agg(F.min(F.array_position(in_order, F.col("split"))).alias("place"))
        .select("unit", F.array(F.element_at(in_order, F.col("place").cast("int"))).alias("splits"))
    )


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
