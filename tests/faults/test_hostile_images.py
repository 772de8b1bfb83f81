"""Hostile image files of 20 kinds: each is a record, or quarantined for its reason, in bounded memory."""

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
from tests.etl.images import hostile
from tests.etl.images.pictures import configuration
from tests.faults import reading_memory
from tests.faults.pipeline_runs import REPOSITORY

FILES = [100, pytest.param(2000, marks=pytest.mark.thorough)]


@pytest.mark.parametrize("files", FILES)
def test_nothing_is_lost_and_what_is_no_image_has_its_reason(
    spark: SparkSession, tmp_path: Path, files: int
) -> None:
    expected = hostile.write(tmp_path / "in", files, seed=files)
    assert len(hostile.KINDS) == 20
    config = configuration(tmp_path, image=reading_memory.MOST)
    counts = ingest(Run(spark, config))

    layout = Layout.of(config)
    found: dict[str, str | None] = {
        row[0]: None for row in read_table(spark, layout.records).select("source_path").collect()
    }
    rejected = read_table(spark, layout.quarantine).select("source_path", "reason").collect()
    assert not found.keys() & {path for path, _ in rejected}
    found |= dict(rejected)
    assert found.keys() == expected.keys()
    assert {path: found[path] for path in found if found[path] not in expected[path]} == {}
    assert counts["records_in"] == counts["records"] + counts["quarantined"] == files
    sizes = read_table(spark, layout.sources).select("source_path", "content_size").collect()
    assert {path: size for path, size in sizes if size} == {
        file.name: file.stat().st_size for file in (tmp_path / "in").iterdir() if file.stat().st_size
    }


@pytest.mark.parametrize("files", FILES)
def test_memory_is_bounded(tmp_path: Path, files: int) -> None:
    """Files of less than 1 MB, some of which claim gigabytes, decode in what an image of 1 million pixels needs."""
    hostile.write(tmp_path / "in", files, seed=files)
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.reading_memory", str(tmp_path / "in"), "images"],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr
    taken = json.loads(done.stdout)
    assert taken["files"] == files
    assert taken["records"] > files // 4
    assert taken["peak"] - taken["before"] < 100
