"""Erasure of a person: the search, the tombstones, the removal, and a summary for the user."""

from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession

from common.errors import UsageError
from common.progress import log
from etl.erasure.finding import Person, find
from etl.erasure.removing import bury, remove
from etl.erasure.traces import Traces, traces
from etl.lake.log import table_exists
from etl.lake.tables import read_table
from etl.lake.tombstones import Tombstones, record_sha256
from etl.rules.personal_data import pseudonym_key
from etl.spark.session import spark_progress
from schemas.config import Configuration
from schemas.tables import Layout

SHOWN = 20
"""Unknown ids that a message numbers."""


@dataclass(frozen=True)
class Forgotten:
    """Result of `forget`: records erased from bronze and from quarantine, new tombstones, and other places that hold
    them.
    """

    records: int
    quarantined: int
    tombstones: int
    traces: Traces


def forget(spark: SparkSession, config: Configuration, person: Person) -> Forgotten:
    """Erase everything that is found of a person; earlier erasures remain.

    Raises UsageError where nothing was ingested yet, and for ids, pseudonyms and places that are found nowhere; then
    nothing is erased.
    """
    layout = Layout.of(config)
    if not table_exists(layout.records, config.storage):
        raise UsageError(f"there is no table {layout.records}: nothing was ingested that could be forgotten")

    def table(name: str) -> DataFrame | None:
        uri = getattr(layout, name)
        return read_table(spark, uri) if table_exists(uri, config.storage) else None

    before = Tombstones.of(config)
    with spark_progress(spark, "looking for the records"):
        key = pseudonym_key(config.clean) if person.pseudonyms else None
        found = find(spark, config, person, table, key)
        gone_to = traces(spark, config, found.ids)
    known = found.known | gone_to.ids
    unknown = [
        place
        for place, name in enumerate(person.ids, start=1)
        if name not in known and not before.has_record(name)
    ]
    if unknown:
        # Numbered by their places in the command: a job's output is kept, and an id may reveal something about a
        # person.
        shown = ", ".join(map(str, unknown[:SHOWN])) + (" …" if len(unknown) > SHOWN else "")
        raise UsageError(
            f"no table and no published version of {config.dataset.name} has a record with {len(unknown):,} of the "
            f"{len(person.ids):,} ids given, in their order number {shown}; nothing was erased"
        )
    if person.pseudonyms and not found and not person.ids and not person.places:
        raise UsageError(
            f"no record of {config.dataset.name} has that pseudonym, in its cleaned texts or in quarantine; nothing "
            "was erased"
        )
    with spark_progress(spark, "erasing"):
        # Of records that only an earlier version has, nothing but the id is known.
        earlier = Tombstones(records=frozenset(map(record_sha256, gone_to.ids)))
        new = found.tombstones(read_table(spark, layout.sources)).joined(earlier).without(before)
        bury(spark, layout, new, datetime.now(UTC))
        if found or new:
            remove(spark, config, found, before, before.joined(new))
    done = len(found.records) or len(found.known if found.left else ())
    return Forgotten(done, len(found.quarantined), new.count(), gone_to)


def report(config: Configuration, done: Forgotten) -> None:
    """Report what was erased, where the records still are, and what to do about it."""
    if not done.records and not done.quarantined and not done.tombstones:
        log("forgotten already: no table has these records")
    else:
        log(f"erased: {done.records:,} records, and {done.quarantined:,} in quarantine")
    for sentence in done.traces.not_known:
        log(f"note: {sentence}")
    for trace in done.traces.versions:
        log(trace.sentence())
    if done.traces.versions:
        log(
            "publish a version without them (ringlake-etl run; before new files come, so that splits stay), then "
            "delete those that hold them (ringlake-etl vacuum --forgotten); what runs have learned only goes with "
            "their checkpoints"
        )
    else:
        log(
            "no published version holds them; ringlake-etl vacuum --forgotten deletes the tables' earlier content"
        )
