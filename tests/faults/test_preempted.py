"""A job that is told to stop writes a checkpoint, says so by its status, and goes on later as if undisturbed."""

import re
import signal
from pathlib import Path

import pytest

from tests.faults.job import Job, training_command
from tests.faults.test_elastic import launch
from tests.training.published import Published, publish
from tests.training.runs import result
from training import verify
from training.checkpoints import store
from training.engine.stopping import STATUS

LONG = ("--set", "train.epochs=100000", "--set", "train.checkpoint_every=1000000")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("published"))


def test_a_signal_to_one_rank_stops_all_and_the_training_ends_with_the_same_bits(
    published: Published, tmp_path: Path
) -> None:
    with Job(tmp_path / "whole", training_command(published, "whole")) as job:
        assert job.wait() == 0, job.shown()
    with Job(tmp_path / "first", training_command(published, "run", fault="term@1@100")) as job:
        assert job.wait() == STATUS, job.shown()
        assert job.orphans() == []
        shown = job.shown()
    steps = store.steps_of(published.root / "runs" / "run")
    assert steps[-1] in (7, 8)  # the step that takes the batch that ends at 112, or the one after
    # Not as the last line: the launcher says how each rank ended, in no order with what the ranks say.
    assert f"stopped by a signal to another rank after step {steps[-1]}, whose checkpoint is written" in shown
    with Job(tmp_path / "then", training_command(published, "run", "--resume=auto")) as job:
        assert job.wait() == 0, job.shown()
    for name in ("weights_sha256", "checkpoint_sha256"):
        assert result(published, "run")[name] == result(published, "whole")[name]


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_to_the_launcher_stops_the_job_which_a_second_job_could_not_disturb(
    published: Published, tmp_path: Path, number: signal.Signals
) -> None:
    name = f"long-{number}"
    run = published.root / "runs" / name
    with Job(tmp_path / "first", training_command(published, name, *LONG)) as job:
        job.wait_for(r"training: [1-9]")
        with Job(
            tmp_path / "second", training_command(published, name, *LONG, "--set", "train.seed=1")
        ) as other:
            assert other.wait() == 2, other.shown()
            assert f"another training is writing the run '{name}' (process " in other.shown()
            assert "Traceback" not in other.shown()
        job.process.send_signal(number)
        assert job.wait() == STATUS, job.shown()
        assert job.orphans() == []
        assert "Traceback" not in job.shown()
        assert re.search(r"stopped by SIG(TERM|USR1) after step ", job.shown().splitlines()[-1])
    assert verify.main([str(run)]) == 0
    assert not (run / "lock").exists()


@pytest.mark.thorough
def test_an_elastic_job_stops_as_a_whole(tmp_path: Path) -> None:
    published = publish(tmp_path / "published")
    with launch(tmp_path / "job", published, fault="term@1@320") as job:
        assert job.wait() == STATUS, job.shown()
        assert job.orphans() == []
        assert "stopped by a signal to another rank after step " in job.shown()
    assert store.steps_of(published.root / "runs" / "run")[-1] in (20, 21, 22, 23)
    assert verify.main([str(published.root / "runs" / "run")]) == 0


@pytest.mark.thorough
def test_a_second_signal_to_the_launcher_ends_all_at_once(published: Published, tmp_path: Path) -> None:
    with Job(tmp_path, training_command(published, "twice", *LONG, fault="hang@1@1000")) as job:
        job.wait_for("rank 1 suffers hang")
        job.process.send_signal(signal.SIGTERM)
        job.wait_for(r"SIG(TERM|USR1): the training ends after this step")
        job.process.send_signal(signal.SIGTERM)
        assert job.wait(20) == 128 + signal.SIGKILL, job.shown()
        assert job.orphans() == []
