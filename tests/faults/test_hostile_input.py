"""Every kind of bad input among good records: no crash, no hang, and each record in exactly one of two tables."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from etl.lake.tables import read_table
from etl.runs.run import Run
from etl.stages.ingest import ingest
from schemas.tables import Layout
from tests.etl.sources.source_files import configuration
from tests.faults import hostile_files
from tests.faults.pipeline_runs import REPOSITORY


@pytest.mark.parametrize(("records", "seed"), [(300, 0), pytest.param(10_000, 1, marks=pytest.mark.thorough)])
def test_what_is_good_is_ingested_and_all_else_quarantined_for_its_reason(
    spark: SparkSession, tmp_path: Path, records: int, seed: int
) -> None:
    expected = hostile_files.write(tmp_path / "files", records, seed)
    config = configuration(tmp_path, hostile_files.sources(tmp_path / "files"))
    counts = ingest(Run(spark, config))

    layout = Layout.of(config)
    ids = {row[0] for row in read_table(spark, layout.records).select("record_id").collect()}
    assert ids == expected.ids
    columns = ("source_path", "source_position", "reason")
    found = {
        (path, at): reason
        for path, at, reason in read_table(spark, layout.quarantine).select(*columns).collect()
    }
    assert found == expected.reasons
    assert counts["records"] == len(expected.ids)
    assert counts["quarantined"] == len(expected.reasons)
    assert counts["records_in"] == len(expected.ids) + len(expected.reasons)
    statuses: dict[str, str] = dict(
        read_table(spark, layout.sources).select("source_path", "status").where("status != 'read'").collect()
    )
    assert "link out.jsonl" in statuses
    assert "plain.jsonl" not in statuses
    assert len(set(expected.reasons.values())) + len(hostile_files.KINDS) > 30


@pytest.mark.thorough
def test_memory_is_bounded_whatever_the_files_would_unfold_to(tmp_path: Path) -> None:
    """Compressed files of 1.3 GB, a field of 50 MB: a task takes a few times the longest record, never a whole file."""
    expected = hostile_files.write(tmp_path / "files", 300, 0)
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.reading_memory", str(tmp_path / "files")],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr
    taken = json.loads(done.stdout)
    assert taken["records"] == len(expected.ids)
    assert taken["peak"] - taken["before"] < 8 * (hostile_files.LARGE >> 20)
