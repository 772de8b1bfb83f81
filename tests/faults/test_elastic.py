"""Elastic training: one of two ranks fails in one way or another, and the other continues from the last commit."""

import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.job import REPOSITORY, Job, batches, training_command
from tests.training.published import Published, publish
from training import verify
from training.checkpoints import store
from training.tracking import summary

ROWS, BATCH, EPOCHS = 173, 16, 6
WATCHDOG = 5
SETTINGS = (
    *("--set", f"train.epochs={EPOCHS}", "--set", "train.commit_every=2"),
    *("--set", f"train.watchdog={WATCHDOG}", "--set", "train.checkpoint_every=50"),
)
WITHIN = 60
"""Seconds from the failure until the others continue."""


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return publish(tmp_path / "published")


def launch(
    folder: Path,
    published: Published,
    *options: str,
    fault: str = "",
    least: int = 1,
    most: int = 2,
    settings: tuple[str, ...] = SETTINGS,
    hosts: str = "",
    path: Path | None = None,
) -> Job:
    """Launch an elastic job of `least` to `most` ranks on this machine, which has two names in it."""
    return Job(
        folder,
        training_command(published, "run", *settings, keys=folder / "keys", fault=fault),
        [
            *("-np", str(least), "--min-np", str(least), "--max-np", str(most)),
            *("--host-discovery-script", str(REPOSITORY / "deploy" / "hosts.sh")),
            *("--network-interfaces", "lo", *options),
        ],
        environment={"HOSTS_FILE": hosts, "RINGLAKE_TEST_PATH": str(path)},
    )


def check_every_row_once(folder: Path, epochs: int = EPOCHS) -> None:
    """Check the keys of the batches in the committed course of the training."""
    found = batches(folder / "keys")
    assert max(found) == epochs * ROWS
    for epoch in range(epochs):
        ends = [end for end in found if epoch * ROWS < end <= (epoch + 1) * ROWS]
        keys = [key for end in ends for key in found[end]]
        assert len(ends) == -(-ROWS // BATCH)
        assert len(keys) == len(set(keys)) == ROWS


def result(published: Published) -> dict[str, Any]:
    found: dict[str, Any] = summary.read(published.root / "runs" / "run")["training"]
    return found


@pytest.mark.parametrize(
    ("kind", "rank"),
    [
        ("kill", 0),
        *(
            pytest.param(kind, rank, marks=pytest.mark.thorough)
            for kind, rank in [
                *(("kill", 1), ("segfault", 1), ("exit", 0), ("exit", 1)),
                *(("raise", 0), ("raise", 1), ("stop", 0), ("stop", 1), ("hang", 1)),
            ]
        ),
    ],
)
def test_the_other_rank_goes_on(published: Published, tmp_path: Path, kind: str, rank: int) -> None:
    """If `rank` is 0, which writes the files, the other has to take that over."""
    folder = tmp_path / "job"
    with launch(folder, published, fault=f"{kind}@{rank}@320") as job:
        job.wait_for(f"rank {rank} suffers {kind}|goes on with")
        began = time.monotonic()
        told = job.wait_for(r"goes on with 1 rank\(s\) from step (\d+)", WITHIN)
        lasted = time.monotonic() - began
        assert job.wait() == 0, job.shown()
        assert job.orphans() == []
    failed_at = int((folder / f"{kind}@{rank}@320").read_text())
    # Batch 20 ends at 320 or a little later; commits are two steps apart.
    assert failed_at <= 333
    assert int(told[1]) in (18, 20)
    assert result(published)["world_size"] == 1
    check_every_row_once(folder)
    assert verify.main([str(published.root / "runs" / "run")]) == 0
    print(f"{kind} of rank {rank}: {lasted:.1f} s until the other went on")


@pytest.mark.thorough
def test_a_host_that_comes_back_is_taken_in(published: Published, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    settings = (*SETTINGS, "--set", "train.epochs=3000")
    with launch(
        folder, published, "--blacklist-cooldown-range", "2", "4", fault="kill@1@320", settings=settings
    ) as job:
        job.wait_for(r"goes on with 1 rank\(s\)")
        began = time.monotonic()
        told = job.wait_for(r"goes on with 2 rank\(s\) from step (\d+)", WITHIN)
        print(f"back after {time.monotonic() - began:.1f} s, at step {told[1]}")
        taken_in = int(told[1])
        job.wait_for(rf"training .* 2 rank\(s\), from step {taken_in} on")
        epoch = taken_in // -(-ROWS // BATCH) + 1
        job.wait_for(f"epoch {epoch + 2}: every one of {ROWS} rows read exactly once")
    found = batches(folder / "keys")
    whole = [end for end in found if end <= (epoch + 1) * ROWS]
    assert len(whole) == (epoch + 1) * -(-ROWS // BATCH)
    for one in range(epoch + 1):
        keys = [key for end in whole if one * ROWS < end <= (one + 1) * ROWS for key in found[end]]
        assert len(keys) == len(set(keys)) == ROWS


@pytest.mark.thorough
def test_below_the_minimum_the_job_ends_with_a_good_checkpoint(published: Published, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    with launch(folder, published, "--elastic-timeout", "15", fault="kill@0@320", least=2) as job:
        told = job.wait_for(r"its state of step (\d+) is saved")
        assert job.wait() != 0
        assert job.orphans() == []
        assert re.search("minimum number of slots to become available", job.shown()), job.shown()
    found = store.last_good(published.root / "runs" / "run", print)
    assert found is not None
    assert found[0].step == int(told[1])
    assert found[0].step in (18, 20)
    command = training_command(published, "run", *SETTINGS, "--resume", keys=folder / "keys")
    with Job(tmp_path / "resumed", command, ranks=1) as job:
        assert job.wait() == 0, job.shown()
        assert f"from step {found[0].step} on" in job.shown()
    check_every_row_once(folder)


@pytest.mark.thorough
@pytest.mark.parametrize("least", [1, 2])
def test_damaged_data_end_the_job_instead_of_being_met_again_and_again(tmp_path: Path, least: int) -> None:
    published = publish(tmp_path / "published", train=[(256, 256)] * 80, length=64, dtype="uint32")
    settings = (*SETTINGS, "--set", "train.batch=1024", "--set", "train.epochs=10")
    with launch(
        tmp_path / "job",
        published,
        *("--blacklist-cooldown-range", "2", "4"),
        fault="alter@0@2048",
        least=least,
        settings=settings,
        path=published.shard("train", 40),
    ) as job:
        job.wait_for("error: row group .* has changed since it was published")
        seen = time.monotonic()
        assert job.wait(WITHIN) != 0
        assert job.orphans() == []
        print(f"ended {time.monotonic() - seen:.1f} s after the message")
        assert "goes on with" not in job.shown()


@pytest.mark.thorough
def test_a_host_that_is_added_is_taken_in(published: Published, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost:1\n")
    settings = (*SETTINGS, "--set", "train.epochs=3000")
    with launch(tmp_path / "job", published, settings=settings, hosts=str(hosts)) as job:
        job.wait_for("epoch 2: every one")
        hosts.write_text("localhost:1\n127.0.0.1:1\n")
        told = job.wait_for(r"goes on with 2 rank\(s\) from step (\d+)", WITHIN)
        epoch = int(told[1]) // -(-ROWS // BATCH) + 1
        job.wait_for(f"epoch {epoch + 2}: every one")
        # Ended from outside, it leaves nothing behind either.
        job.process.send_signal(signal.SIGTERM)
        assert job.wait(60) != 0
        assert job.orphans() == []
