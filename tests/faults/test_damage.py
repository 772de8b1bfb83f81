"""Files damaged while a training runs: the rank that finds the damage reports its place, and the whole job ends."""

import re
import time
from pathlib import Path

import pytest

from tests.faults.job import Job, training_command
from tests.training.published import Published, publish

SHARDS = 80
"""More files than a reader keeps open, so that a changed file is opened again; more bytes than it reads ahead."""
PATIENCE = 15
"""Seconds for the end of all ranks after the message. It takes under 5 on a quiet machine."""


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return publish(tmp_path / "published", train=[(256, 256)] * SHARDS, length=64, dtype="uint32")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("alter", "has changed since it was published: its CRC-32 is not that of the manifest"),
        pytest.param("delete", "cannot be read", marks=pytest.mark.thorough),
        pytest.param("truncate", "cannot be read", marks=pytest.mark.thorough),
    ],
)
def test_the_file_and_row_group_are_named_and_all_ranks_end(
    published: Published, tmp_path: Path, kind: str, message: str
) -> None:
    shard = published.shard("train", SHARDS // 2)
    settings = ("--set", "train.epochs=10", "--set", "train.batch=1024")
    command = training_command(published, "damaged", *settings, fault=f"{kind}@0@2048")
    with Job(tmp_path / "job", command, environment={"RINGLAKE_TEST_PATH": str(shard)}) as job:
        job.wait_for(rf"error: row group [01] of {re.escape(str(shard))} {message}")
        seen = time.monotonic()
        assert job.orphans(PATIENCE) == []
        lasted = time.monotonic() - seen
        assert job.wait() != 0
        print(f"all processes had ended {lasted:.1f} s after the message")
        assert lasted < PATIENCE
    assert not (published.root / "runs" / "damaged" / "summary.json").exists()
