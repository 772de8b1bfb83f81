"""What stages note in commits, without a table: one model a table, and what it is compared by."""

import json

import pytest
from pydantic import ValidationError

from etl.lake.facts import FACTS, ClustersFacts, CommitFacts, Fingerprint, LedgerFacts, RecordsFacts

MADE_FROM = Fingerprint(configuration="c", code="d", inputs={"records": "t@1", "key_check": None})
RECORDS = RecordsFacts(
    stage="ingest",
    configuration_sha256="s",
    fingerprint=MADE_FROM,
    tables={"sources": "u@0", "quarantine": "v@3"},
    counts={"records": 7},
    failed=0,
)


def test_facts_are_read_as_they_were_noted_by_the_model_of_their_table_alone() -> None:
    noted = RECORDS.to_json()
    assert RecordsFacts.read(noted) == RECORDS
    for model in {*FACTS.values()} - {RecordsFacts}:
        assert model.read(noted) is None


@pytest.mark.parametrize("noted", [None, "", "{", "[]", "7", '{"stage": "forget"}'])
def test_a_commit_of_something_else_says_nothing(noted: str | None) -> None:
    assert CommitFacts.read(noted) is None


def test_what_another_version_noted_says_nothing() -> None:
    document = json.loads(RECORDS.to_json())
    for other in (
        {**document, "rules": []},
        {**document, "failed": "0"},
        {**document, "fingerprint": {**document["fingerprint"], "basis": ""}},
        {key: value for key, value in document.items() if key != "tables"},
    ):
        assert RecordsFacts.read(json.dumps(other)) is None


def test_nothing_undeclared_is_noted() -> None:
    with pytest.raises(ValidationError, match="follows"):
        LedgerFacts(
            stage="split",
            configuration_sha256="s",
            fingerprint=MADE_FROM,
            conflicts=0,
            follows=["t@1"],  # type: ignore[call-arg]
        )


def test_fingerprints_are_compared_but_for_some_inputs() -> None:
    later = MADE_FROM.model_copy(update={"inputs": {"records": "t@2", "key_check": None}})
    assert later != MADE_FROM
    assert later.differs_only_in(MADE_FROM, "records")
    assert not later.differs_only_in(MADE_FROM, "key_check")
    assert not later.model_copy(update={"code": "e"}).differs_only_in(MADE_FROM, "records")
    assert not later.model_copy(update={"configuration": "e"}).differs_only_in(MADE_FROM, "records")


def test_identities_are_replaced_wherever_they_stand() -> None:
    moved = RECORDS.with_identities({"t@1": "t@2", "v@3": "v@4"})
    assert moved.fingerprint.inputs == {"records": "t@2", "key_check": None}
    assert moved.tables == {"sources": "u@0", "quarantine": "v@4"}
    clusters = ClustersFacts(
        stage="deduplicate", configuration_sha256="s", fingerprint=MADE_FROM, signatures="w@0", conflicts=1
    )
    assert clusters.with_identities({"w@0": "w@1"}).signatures == "w@1"
