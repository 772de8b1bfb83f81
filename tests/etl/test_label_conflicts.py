"""Clusters whose records have different labels: what each policy makes of them, and what is told."""

from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from common.pages.page import Table, Text
from etl.duplicates.label_conflicts import LABEL_CONFLICT
from etl.figures.aggregates import Conflicts, clusters_of, with_outcomes
from etl.figures.facts import Cluster, LabelConflict
from etl.gates.limits import gates, measures
from etl.lake.tables import read_table
from etl.reporting import records
from etl.runs.run import Run
from etl.stages.deduplicate import deduplicate
from etl.stages.split import split
from schemas.config import Configuration
from schemas.tables import Layout
from tests.etl import documents
from tests.etl.example_summary import example_summary

LONG = " ".join(f"word{i}" for i in range(60))
RECORDS = {
    # id: label, text
    "a1": ("x", "the same text"),
    "a2": ("y", "The same  text"),
    "a3": ("y", "the SAME text"),
    "b1": ("x", LONG),
    "b2": ("x", LONG),
    "b3": ("y", LONG + " and one"),
    "c1": ("x", "no conflict here"),
    "c2": ("x", "No conflict  here"),
    "d1": ("y", "tie"),
    "d2": ("x", "Tie"),
    "e1": ("x", "without a label"),
    "e2": (None, "Without a label"),
    "f1": ("y", "learn C++"),
    "f2": ("x", "learn C#"),
}

CONTESTED = ("a1", "a2", "a3", "b1", "b2", "b3", "d1", "d2")
OTHERS = {
    "c1": "exact_duplicate",
    "c2": "kept",
    "e1": "kept",
    "e2": "exact_duplicate",
    "f1": "kept",
    "f2": "kept",
}
"""The longest survives, and of equally long ones the first by id."""
EXPECTED = {
    ("survivor", "drop"): {
        **dict.fromkeys(("a1", "a3", "b2", "d2"), "exact_duplicate"),
        **dict.fromkeys(("a2", "b3", "d1"), "kept"),
        "b1": "near_duplicate",
    },
    ("keep", "drop"): dict.fromkeys(CONTESTED, "kept"),
    ("drop", "drop"): dict.fromkeys(CONTESTED, "filtered"),
    ("majority", "drop"): {
        **dict.fromkeys(("a1", "a3", "b2", "d2"), "exact_duplicate"),
        **dict.fromkeys(("a2", "b1", "d1"), "kept"),
        "b3": "near_duplicate",
    },
    ("survivor", "keep"): dict.fromkeys(CONTESTED, "kept"),
    ("drop", "keep"): dict.fromkeys(CONTESTED, "filtered"),
    ("majority", "keep"): {
        **dict.fromkeys(("a2", "a3", "b1", "b2", "d1"), "kept"),
        **dict.fromkeys(("a1", "b3", "d2"), "filtered"),
    },
}


def configuration(folder: Path, policy: str, duplicates: str = "drop") -> Configuration:
    return documents.configuration(
        folder,
        columns={"label": "label"},
        deduplicate={"label_conflicts": policy, "duplicates": duplicates},
    )


def write(config: Configuration, records: dict[str, tuple[str | None, str]]) -> None:
    rows = [{"record_id": name, "label": label, "text": text} for name, (label, text) in records.items()]
    documents.write_fields(config, rows)


def table(uri: str) -> dict[str, dict[str, Any]]:
    return {row["record_id"]: row for row in DeltaTable(uri).to_pyarrow_table().to_pylist()}


@pytest.mark.parametrize(("policy", "duplicates"), EXPECTED)
def test_each_policy(spark: SparkSession, tmp_path: Path, policy: str, duplicates: str) -> None:
    config = configuration(tmp_path, policy, duplicates)
    write(config, RECORDS)
    counts = deduplicate(Run(spark, config))
    found = table(Layout.of(config).clusters)
    others = OTHERS if duplicates == "drop" else dict.fromkeys(OTHERS, "kept")
    expected = EXPECTED[policy, duplicates] | others
    assert {name: row["status"] for name, row in found.items()} == expected
    for status, count in counts.items():
        assert count == list(expected.values()).count(status)
    for row in found.values():
        assert row["cluster_id"] is not None
        if row["status"] == "filtered":
            assert row["reason"] == LABEL_CONFLICT
        elif row["status"] == "kept":
            assert row["reason"] is None
        else:
            assert row["reason"] == row["cluster_id"]
            assert found[row["reason"]]["status"] == "kept"
    for cluster in ("a1", "a2", "a3"), ("b1", "b2", "b3"), ("d1", "d2"):
        assert len({found[name]["cluster_id"] for name in cluster}) == 1


def test_conflicts_are_counted_and_listed_after_any_policy(spark: SparkSession, tmp_path: Path) -> None:
    config = configuration(tmp_path, "drop")
    write(config, RECORDS)
    deduplicate(Run(spark, config))
    split(Run(spark, config))
    layout = Layout.of(config)
    fields, ledger = (read_table(spark, uri) for uri in (layout.fields, layout.ledger))
    *_, conflicts = clusters_of(with_outcomes(config, fields, ledger))
    assert conflicts == Conflicts(
        8,
        3,
        [
            LabelConflict(Cluster("a2", 3, "a1"), {"y": 2, "x": 1}),
            LabelConflict(Cluster("b3", 3, "b1"), {"x": 2, "y": 1}),
            LabelConflict(Cluster("d1", 2, "d1"), {"x": 1, "y": 1}),
        ],
    )
    placed = table(layout.ledger)
    assert all((placed[name]["split"] is None) == (name in (*CONTESTED, "c1", "e2")) for name in RECORDS)


def test_the_gate_names_share_and_key(tmp_path: Path) -> None:
    summary = example_summary(label_conflicts=300, conflicting_clusters=100)
    config = configuration(tmp_path, "survivor")
    limited = config.model_copy(
        update={"quality": config.quality.model_copy(update={"max_label_conflict_share": 0.02})}
    )
    (gate,) = (gate for gate in gates(limited, 512) if "another label" in gate.name)
    row = measures(summary, limited)["records"][0]
    result = gate.result([row], [row])
    assert not result.passed
    assert "3.00% of the records read (300 of 10,000)" in result.failures[0]
    assert "quality.max_label_conflict_share" in gate.allowed
    unlabelled = documents.configuration(tmp_path)
    assert not [gate for gate in gates(unlabelled, 512) if "another label" in gate.name]


def test_the_report_lists_them_masked(tmp_path: Path) -> None:
    config = configuration(tmp_path, "majority")
    summary = example_summary(
        label_conflicts=5,
        conflicting_clusters=2,
        largest_conflicts=[LabelConflict(Cluster("c", 3, "jo@example.org"), {"x": 2, "y": 1})],
    )
    section = records.label_conflicts(
        summary,
        {"jo@example.org": "its text"},
        config,
        lambda text: text.replace("jo@example.org", "<email>"),
    )
    told, listed = section.blocks
    assert isinstance(told, Text)
    assert isinstance(listed, Table)
    assert told.text.startswith("5 records in 2 clusters of copies and near-copies have different labels")
    assert [[cell.text for cell in row] for row in listed.cells] == [["3", "x 2, y 1", "its text", "<email>"]]
    (none,) = records.label_conflicts(example_summary(), {}, config, str).blocks
    assert none == Text("No copies or near-copies have different labels.", "good")
