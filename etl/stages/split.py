"""split: assigns training, validation and test, never by row, always by cluster of duplicates and by group.

Reads silver/clusters and the label and group of silver/fields; writes silver/ledger, with `split` for every kept
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

from collections.abc import Mapping
from contextlib import ExitStack

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from common.errors import UsageError
from common.progress import log
from etl.duplicates.later_records import SPLIT_CONFLICT
from etl.lake.facts import ClustersFacts, LedgerFacts
from etl.lake.log import Commit
from etl.runs.completion import Stage, by_the_log, fingerprint
from etl.runs.finished import FinishedRun, run_to_go_on_from
from etl.runs.run import Run, Tables
from etl.spark.persist import persisted
from etl.spark.session import spark_progress
from etl.spark.skew import hot_keys, salted_join
from etl.splits.assignment import NOTHING_THERE, assign
from etl.splits.earlier_records import anchors, rows_by_class, splits_stay, units_that_stay, with_splits_of
from etl.splits.units import count_units, with_unit
from schemas import lopsided
from schemas.config import Configuration
from schemas.tables import SPLITS, ledger_schema


def split(run: Run) -> Mapping[str, int]:
    """Write silver/ledger; return the number of records of each split, and `salted_keys` if any.

    A unit of new records goes to the split of the earlier ones that it shares a cluster or a group with; where these
    lie in several, it is left out (`filtered`, reason SPLIT_CONFLICT). Earlier records stay where they are.
    """
    config, source, found = run.config, run.existing("fields"), run.existing("clusters")
    now = fingerprint("split", config, fields=source.identity, clusters=found.identity)
    fields, clusters = run.read("fields", source.version), run.read("clusters", found.version)
    last, new = rows_since_last_run(run, source.identity, found.identity)
    of_clusters = found.facts(ClustersFacts)
    if of_clusters is not None and of_clusters.fingerprint.inputs.get("fields") != source.identity:
        raise UsageError(
            f"{run.uri('fields')} has changed since {run.uri('clusters')} was made; run the stage deduplicate first"
        )
    if last is None and of_clusters is not None and of_clusters.conflicts:
        raise UsageError(
            f"{run.uri('clusters')} has records that were left out because of the splits that there were, and that "
            "have no cluster: run the stage deduplicate with --again first, then this one"
        )
    standing = None if last is not None else splits_that_stay(run)
    with spark_progress(run.spark, "split"), ExitStack() as stack:

        def keep(frame: DataFrame) -> DataFrame:
            return stack.enter_context(persisted(frame))

        rows, salted = with_unit(*(new or (clusters, fields)), config)
        members = keep(rows)
        units = keep(count_units(members, config.split.seed))
        # Dropped records have no unit: without salt all of them would go to one task.
        hot = hot_keys(units.select("unit", "rows"), members.where("unit IS NULL").count())
        anchored, there, placed = None, NOTHING_THERE, None
        if last is not None:
            placed = run.read("ledger", last.version)
            anchored = keep(anchors(members, placed, fields, config))
        elif standing is not None:
            before = run.read("ledger", standing.version)
            placed = keep(with_splits_of(clusters, before))
            anchored = keep(units_that_stay(members, placed))
        if placed is not None and anchored is not None:
            there = rows_by_class(placed, fields, config)
            units = units.join(anchored.select("unit"), "unit", "left_anti")
        assigned = assign(units, config.split, there=there).select("unit", F.array("split").alias("splits"))
        if anchored is not None:
            assigned = assigned.unionByName(anchored)
        rows = placed_rows(salted_join(members, assigned, "unit", "left", hot, "record_id"))
        torn = 0 if last is None else last.ledger.conflicts + conflicts(members, rows, config)
        # After an erasure `deduplicate` comes first: until then the splits go on staying.
        stage = "forget" if standing is not None and of_clusters is None else "split"
        facts = LedgerFacts.by(stage, config, now, conflicts=torn)
        run.write(rows, "ledger", ledger_schema(), facts, append=last is not None)
    salted += len(hot)
    counts = rows_by_split(run.read("ledger"))
    for sentence in lopsided.of_splits(counts, config.split.model_dump()):
        log(f"warning: {sentence}")
    return counts | ({"salted_keys": salted} if salted else {})


def rows_since_last_run(
    run: Run, fields: str, clusters: str
) -> tuple[FinishedRun, tuple[DataFrame, DataFrame]] | tuple[None, None]:
    """Return the last run, and the rows added to silver/clusters and silver/fields since; None: rebuild everything.

    `fields`, `clusters`: the current identities of the two.
    """
    last = run_to_go_on_from(run)
    if last is None:
        return None, None
    added = run.added("clusters", last.tables["clusters"], clusters)
    of_fields = run.added("fields", last.tables["fields"], fields)
    return (None, None) if added is None or of_fields is None else (last, (added, of_fields))


def splits_that_stay(data: Tables) -> Commit | None:
    """Return the ledger that `forget` left with the splits of the other records, where they are to stay."""
    commit = data.commit("ledger")
    facts = None if commit is None else commit.facts(LedgerFacts)
    return commit if facts is not None and splits_stay(facts, data.config) else None


def placed_rows(members: DataFrame) -> DataFrame:
    """Return the rows of silver/ledger from members with the `splits` of their unit, null for dropped ones."""
    conflict = F.size("splits") > 1
    none = F.lit(None).cast("string")
    return members.select(
        "record_id",
        "source",
        F.when(conflict, "filtered").otherwise(F.col("status")).alias("status"),
        F.when(conflict, SPLIT_CONFLICT).otherwise(F.col("reason")).alias("reason"),
        F.when(conflict, none).otherwise(F.col("cluster_id")).alias("cluster_id"),
        F.when(F.size("splits") == 1, F.element_at("splits", 1)).alias("split"),
    )


def conflicts(members: DataFrame, later: DataFrame, config: Configuration) -> int:
    """Return the number of records that are left out only because of other records' splits.

    Where duplicates are dropped, a near-copy of several clusters would be left out under any splits.
    """
    found = later.where(F.col("reason") == SPLIT_CONFLICT)
    if config.deduplicate.duplicates == "drop":
        out_anyway = members.where(F.col("reason") == SPLIT_CONFLICT).select("record_id")
        found = found.join(out_anyway, "record_id", "left_anti")
    return found.count()


def rows_by_split(ledger: DataFrame) -> dict[str, int]:
    """Return the number of records in each split."""
    counted = ledger.where("split IS NOT NULL").groupBy("split").count()
    rows = {row["split"]: int(row["count"]) for row in counted.collect()}
    return {name: rows.get(name, 0) for name in SPLITS}


def is_split(data: Tables) -> bool:
    """Return True where the stage is complete."""
    fields, clusters, ledger = (data.commit(name) for name in ("fields", "clusters", "ledger"))
    if fields is None or clusters is None or ledger is None:
        return False
    now = fingerprint("split", data.config, fields=fields.identity, clusters=clusters.identity)
    facts = ledger.made_by(now, LedgerFacts)
    return facts is not None and facts.stage == "split"


STAGE = Stage("split", split, by_the_log(is_split))
