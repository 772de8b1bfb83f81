"""A full disk, or a folder without write permission: training continues, and saved checkpoints stay good."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.job import Job, training_command
from tests.faults.mounts import Mount
from tests.training.published import Published, publish
from training.checkpoints import store
from training.tracking import summary

pytestmark = [pytest.mark.thorough]
SIZE = "1m"
SETTINGS = ("--set", "train.checkpoint_every=3", "--set", "train.epochs=4")


@pytest.fixture
def mount() -> Iterator[Callable[[Path], None]]:
    """Mount small file systems on folders, and unmount all of them afterwards."""
    mounted: list[Mount] = []
    yield lambda folder: mounted.append(Mount(folder, SIZE))
    for one in mounted:
        one.unmount()


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return publish(tmp_path / "published")


def train(folder: Path, published: Published, fault: str, path: Path, *arguments: str) -> tuple[int, str]:
    command = training_command(published, "run", *SETTINGS, *arguments, fault=fault)
    with Job(folder, command, environment={"RINGLAKE_TEST_PATH": str(path)}) as job:
        status = job.wait()
        assert job.orphans() == []
        return status, job.shown()


@pytest.mark.parametrize("kind", ["fill", "lock"])
def test_training_goes_on_and_the_last_good_checkpoint_stays_good(
    published: Published, mount: Callable[[Path], None], tmp_path: Path, kind: str
) -> None:
    runs = tmp_path / "runs"
    mount(runs)
    to_runs = ("--set", f"train.runs={runs}")
    folder = store.folder_of(runs / "run")
    status, shown = train(
        tmp_path / "first", published, f"{kind}@0@173", runs if kind == "fill" else folder, *to_runs
    )
    assert "the training goes on, the last good one is of step" in shown, shown
    assert "epoch 4: every one of 173 rows read exactly once" in shown
    assert "the last checkpoint of the run 'run' could not be written" in shown
    assert status != 0
    found = store.last_good(runs / "run", print)
    assert found is not None
    assert 0 < found[0].position <= 2 * 173

    if kind == "fill":
        os.unlink(runs / "filler")
    else:
        subprocess.run(["umount", str(folder)], check=True)
    status, shown = train(tmp_path / "then", published, "", runs, *to_runs, "--resume")
    assert status == 0, shown
    assert f"from step {found[0].step:,} on" in shown
    status, shown = train(tmp_path / "whole", published, "", runs)
    assert status == 0, shown
    resumed = summary.read(runs / "run")["training"]
    whole = summary.read(published.root / "runs" / "run")["training"]
    for name in ("weights_sha256", "checkpoint_sha256"):
        assert resumed[name] == whole[name]
