"""The pipeline's driver is killed at any moment: restarted, it ends with the tables of an undisturbed run."""

import contextlib
import random
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from etl.runs import audit
from etl.versions.verification import findings
from schemas.config import STAGES
from tests.faults.mounts import Mount
from tests.faults.pipeline_runs import PipelineFolder, write_files


@dataclass(frozen=True)
class Whole:
    """A run disturbed only by another one that tried to start."""

    folder: PipelineFolder
    seconds: float
    other: tuple[int, str]
    """Status and output of the other one."""


@pytest.fixture(scope="module")
def whole(small: PipelineFolder, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = PipelineFolder(tmp_path_factory.mktemp("whole") / "run", small.files)
    began = time.monotonic()
    with folder.start() as first:
        lock = Path(folder.layout.at("lock"))
        until = time.monotonic() + 60
        while not (lock.exists() and lock.read_bytes()) and time.monotonic() < until:
            time.sleep(0.05)
        other = folder.run()
        said, _ = first.communicate(timeout=300)
    assert first.returncode == 0, said
    return Whole(folder, time.monotonic() - began, other)


def test_of_two_runs_at_once_one_is_told_that_the_other_is_there(whole: Whole) -> None:
    status, said = whole.other
    assert status == 2, said
    assert "another run is writing the data set example (process " in said
    assert "Traceback" not in said
    folder = whole.folder
    assert folder.ended() == dict.fromkeys(STAGES, 1)
    assert findings(folder.manifest(), folder.config.storage) == []


def test_another_folder_master_and_partitions_give_the_same_root(whole: Whole, small: PipelineFolder) -> None:
    """One ran as a process on one core, the other in a session on two cores with other partitions."""
    assert whole.folder.layout.root != small.layout.root
    assert whole.folder.rows() == small.rows()
    assert whole.folder.manifest().manifest_root == small.manifest().manifest_root


@pytest.mark.parametrize(("kills", "seed"), [(1, 0), pytest.param(20, 1, marks=pytest.mark.thorough)])
@pytest.mark.timeout(3600)
def test_a_killed_pipeline_goes_on_and_ends_with_the_same_tables(
    whole: Whole, tmp_path: Path, kills: int, seed: int
) -> None:
    draw = random.Random(seed)
    left, runs = kills, 0
    while left:
        folder = PipelineFolder(tmp_path / f"run-{runs}", whole.folder.files)
        runs += 1
        while left and killed(folder, draw.uniform(0.1, 0.95) * whole.seconds):
            left -= 1
        status, said = folder.run()
        assert status == 0, said
        check(folder, whole.folder, once_more=kills > 1)


def killed(folder: PipelineFolder, after: float) -> bool:
    """Start the pipeline and SIGKILL its driver after `after` seconds; return False if it had ended by then."""
    with folder.start() as process:
        try:
            said, _ = process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return True
    assert process.returncode == 0, said
    return False


def check(folder: PipelineFolder, undisturbed: PipelineFolder, once_more: bool) -> None:
    """Check that tables and published version equal those of the undisturbed run, and no stage was completed twice.

    With `once_more`, also check that another run finds nothing to do.
    """
    assert folder.rows() == undisturbed.rows()
    manifest = folder.manifest()
    assert manifest.manifest_root == undisturbed.manifest().manifest_root
    assert findings(manifest, folder.config.storage) == []
    assert audit.findings(folder.layout, {"newest": manifest}, folder.config.storage) == []
    ended = folder.ended()
    assert {name: ended[name] for name in STAGES if ended[name] > 1} == {}
    if not once_more:
        return
    status, said = folder.run()
    assert status == 0, said
    assert folder.ended() == ended
    assert said.count("complete") == len(STAGES)


def filled_up_in(folder: PipelineFolder, mount: Mount, stage: str) -> tuple[int, str]:
    """Run with a full disk from the start of a stage on, then make room; return the status and the output."""
    begun = folder.counted("begin")[stage]
    filler = mount.folder / "filler"
    with folder.start() as process:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                said, _ = process.communicate(timeout=0.02)
                break
            if folder.counted("begin")[stage] > begun:  # again and again: deleted files make room
                with open(filler, "ab", buffering=0) as file, contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(1 << 16))
    filler.unlink(missing_ok=True)
    return process.returncode, said


@pytest.mark.thorough
@pytest.mark.timeout(1800)
def test_a_full_disk_is_told_the_version_before_stays_and_the_next_run_goes_on(tmp_path: Path) -> None:
    files = tmp_path / "files"
    write_files(files)
    mount = Mount(tmp_path / "disk", "500m")
    try:
        folder = PipelineFolder(mount.folder / "run", files)
        status, said = folder.run()
        assert status == 0, said
        before = folder.manifest()
        (files / "more.jsonl").write_text((files / "0.jsonl").read_text().replace('"id": "', '"id": "more'))
        for stage in STAGES:
            status, said = filled_up_in(folder, mount, stage)
            assert status == 1, said
            assert "error: a disk is full" in said
            assert "Traceback" not in said
            assert folder.manifest() == before
            assert findings(before, folder.config.storage) == []
        ended = folder.ended()
        assert [ended[stage] for stage in STAGES] == [2] * (len(STAGES) - 1) + [1]
        status, said = folder.run()
        assert status == 0, said
        assert folder.manifest().manifest_root != before.manifest_root
        assert findings(folder.manifest(), folder.config.storage) == []
    finally:
        mount.unmount()
