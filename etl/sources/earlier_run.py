"""What an increment of `ingest` goes on from: the run before, where only new files separate it from this one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from etl.lake.facts import Fingerprint, RecordsFacts
from etl.lake.log import stages_since, version_in
from etl.runs.run import Run
from etl.sources.changes import SourceChanges, may_go_on, source_changes
from etl.sources.files.pieces import Piece
from etl.sources.up_to_date import bronze_tables


@dataclass(frozen=True)
class EarlierRun:
    """What an increment goes on from."""

    changes: SourceChanges
    facts: RecordsFacts


def earlier_run(run: Run, now: Fingerprint, pieces: Sequence[Piece]) -> EarlierRun | None:
    """The run before, where only new files separate it from this one; None where everything is to be read.

    Raises DataError where files have changed or vanished and the configuration says to stop then.
    """
    config, records = run.config, run.commit("records")
    facts = None if records is None else records.facts(RecordsFacts)
    if not config.increments.go_on or facts is None or facts.failed or now.inputs["sources"] is None:
        return None
    if not now.differs_only_in(facts.fingerprint, "sources"):
        return None
    broke_off = facts.tables != bronze_tables(run)
    if facts.fingerprint == now and not broke_off:
        return None  # the same sources: this run was asked for, to read all of them again
    # An increment that broke off may have added to them.
    if broke_off and not restore_tables(run, facts.tables):
        return None
    changes = source_changes(config, pieces)
    if not may_go_on(changes, config) or changes.moves_twins:
        return None
    return EarlierRun(changes, facts)


def restore_tables(run: Run, noted: Mapping[str, str]) -> bool:
    """Brings sources and quarantine back to the versions that belong to bronze/records; False where that cannot be."""
    for name in ("sources", "quarantine"):
        commit, identity = run.commit(name), noted.get(name, "")
        if commit is None or not identity or commit.identity_at(version_in(identity)) != identity:
            return False
        if "forget" in stages_since(run.uri(name), version_in(identity), run.config.storage):
            return False  # what was erased must not come back
        run.restore(name, identity)
    return True
