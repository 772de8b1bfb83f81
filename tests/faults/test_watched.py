"""Ranks that stop answering: the watchdog ends them, and so the job."""

import time
from pathlib import Path

import pytest

from tests.faults.job import Job, training_command
from tests.training.published import publish


@pytest.mark.thorough  # test_watchdog.py stops a process, test_damage.py ends a job
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("stop", r"watchdog: rank 1 \(process \d+\) gave no sign of life for 3 seconds"),
        ("hang", r"watchdog: rank 1 \(process \d+\) worked for 3 seconds without a step"),
    ],
)
def test_a_rank_that_stops_answering_ends_the_job(tmp_path: Path, kind: str, message: str) -> None:
    published = publish(tmp_path / "published")
    settings = ("--set", "train.watchdog=3", "--set", "train.epochs=1000")
    command = training_command(published, "watched", *settings, fault=f"{kind}@1@320")
    with Job(tmp_path / "job", command) as job:
        job.wait_for(f"rank 1 suffers {kind}")
        began = time.monotonic()
        assert job.wait(60) != 0
        assert job.orphans() == []
        print(f"the job had ended {time.monotonic() - began:.1f} s after its rank did {kind}")
        job.wait_for(message)
