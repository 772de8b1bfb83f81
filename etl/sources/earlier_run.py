"""What an increment of `ingest` goes on from: the run before, where only new files separate it from this one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import SparkSession

from etl.lake.facts import Fingerprint, RecordsFacts
from etl.lake.log import Commit, stages_since
from etl.lake.tables import restore_to
from etl.sources.changes import SourceChanges, may_go_on, source_changes
from etl.sources.files.pieces import Piece
from etl.sources.up_to_date import bronze_tables
from schemas.config import Configuration
from schemas.tables import Layout


@dataclass(frozen=True)
class EarlierRun:
    """What an increment goes on from."""

    changes: SourceChanges
    facts: RecordsFacts


def earlier_run(
    spark: SparkSession, config: Configuration, now: Fingerprint, pieces: Sequence[Piece]
) -> EarlierRun | None:
    """The run before, where only new files separate it from this one; None where everything is to be read.

    Raises DataError where files have changed or vanished and the configuration says to stop then.
    """
    layout = Layout.of(config)
    records = Commit.of(layout.records, config.storage)
    facts = None if records is None else records.facts(RecordsFacts)
    if not config.increments.go_on or facts is None or facts.failed or now.inputs["sources"] is None:
        return None
    if not now.differs_only_in(facts.fingerprint, "sources"):
        return None
    broke_off = facts.tables != bronze_tables(config)
    if facts.fingerprint == now and not broke_off:
        return None  # the same sources: this run was asked for, to read all of them again
    # An increment that broke off may have added to them.
    if broke_off and not restore_tables(spark, config, facts.tables):
        return None
    changes = source_changes(config, pieces)
    if not may_go_on(changes, config) or changes.moves_twins:
        return None
    return EarlierRun(changes, facts)


def restore_tables(spark: SparkSession, config: Configuration, noted: Mapping[str, str]) -> bool:
    """Brings sources and quarantine back to the versions that belong to bronze/records; False where that cannot be."""
    layout = Layout.of(config)
    for name in ("sources", "quarantine"):
        uri = layout.at("bronze", name)
        table, _, version = noted.get(name, "").rpartition("@")
        commit = Commit.of(uri, config.storage)
        if not table or commit is None or commit.table_id != table:
            return False
        if commit.version != int(version):
            if "forget" in stages_since(uri, int(version), config.storage):
                return False  # what was erased must not come back
            restore_to(spark, uri, noted[name], config.storage)
    return True
