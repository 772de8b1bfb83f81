"""The pipeline's driver is killed at any moment: restarted, it ends with the tables of an undisturbed run."""

import contextlib
import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from etl.runs import audit
from etl.versions.verification import findings
from schemas.config import STAGES
from tests.faults.mounts import Mount
from tests.faults.pipeline_runs import PipelineFolder, write_files


@dataclass(frozen=True)
class Disturbed:
    """A run that another one tried to join, that was killed when `encode` had begun, and was started again."""

    folder: PipelineFolder
    other: tuple[int, str]
    """Status and output of the other one."""
    again: tuple[int, str]
    """Status and output of the run after the kill."""


def until(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait until a condition holds. Fails if the process ends before."""
    while not condition():
        assert process.poll() is None, process.stdout and process.stdout.read()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def disturbed(small: PipelineFolder, tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    folder = PipelineFolder(tmp_path_factory.mktemp("disturbed") / "run", small.files)
    lock, trail = Path(folder.layout.at("lock")), Path(folder.layout.at(audit.FILE))
    with folder.start() as first:
        until(lambda: lock.exists() and bool(lock.read_bytes()), first)
        other = folder.run()
        until(lambda: trail.exists() and folder.counted("begin")["encode"] > 0, first)
        first.kill()
        first.communicate()
    return Disturbed(folder, other, folder.run())


def test_of_two_runs_at_once_one_is_told_that_the_other_is_there(disturbed: Disturbed) -> None:
    status, said = disturbed.other
    assert status == 2, said
    assert "another run is writing the data set example (process " in said
    assert "Traceback" not in said


def test_a_killed_pipeline_goes_on_and_ends_with_the_same_tables(
    disturbed: Disturbed, small: PipelineFolder
) -> None:
    status, said = disturbed.again
    assert status == 0, said
    check(disturbed.folder, small, once_more=False)
    begun = disturbed.folder.counted("begin")
    assert {name: begun[name] for name in ("ingest", "clean", "deduplicate", "split")} == dict.fromkeys(
        ("ingest", "clean", "deduplicate", "split"), 1
    )
    assert begun["encode"] == 2


def test_another_folder_master_and_partitions_give_the_same_root(
    disturbed: Disturbed, small: PipelineFolder
) -> None:
    """One ran as processes on one core, the other in a session on two cores with other partitions."""
    assert disturbed.folder.layout.root != small.layout.root
    assert disturbed.folder.rows() == small.rows()
    assert disturbed.folder.manifest().manifest_root == small.manifest().manifest_root


@pytest.mark.thorough
@pytest.mark.timeout(3600)
def test_killed_at_any_moment_it_ends_with_the_same_tables(small: PipelineFolder, tmp_path: Path) -> None:
    began = time.monotonic()
    status, said = PipelineFolder(tmp_path / "undisturbed", small.files).run()
    assert status == 0, said
    seconds, draw, left, runs = time.monotonic() - began, random.Random(1), 20, 0
    while left:
        folder = PipelineFolder(tmp_path / f"run-{runs}", small.files)
        runs += 1
        while left and killed(folder, draw.uniform(0.1, 0.95) * seconds):
            left -= 1
        status, said = folder.run()
        assert status == 0, said
        check(folder, small, once_more=True)


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
    assert "nothing is new: version 0 is current" in said


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
