"""Trainings on PyTorch's process groups, started by torchrun: those of Horovod, failures included."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from common.errors import UsageError
from tests.faults.job import REPOSITORY, Job, batches, training_command
from tests.training.published import Published, publish
from tests.training.runs import result, weights
from training import verify
from training.parallel.communicator import Communicator
from training.train import main

DDP = ("--set", "train.backend=ddp")
WITHOUT_HOROVOD = """
import sys
sys.modules["horovod"] = None  # importing it fails
from common import command
from training.train import main
sys.exit(command.run(main))
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def whole(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the run `whole` by torchrun on two ranks; return the folder of its batches."""
    keys = tmp_path_factory.mktemp("keys")
    folder = tmp_path_factory.mktemp("job")
    with Job(folder, training_command(published, "whole", *DDP, keys=keys), backend="ddp") as job:
        assert job.wait() == 0, job.shown()
        assert job.orphans() == []
    return keys


def test_both_back_ends_take_the_same_batches_to_the_same_weights(
    published: Published, whole: Path, tmp_path: Path
) -> None:
    with Job(tmp_path, training_command(published, "other", keys=tmp_path / "keys")) as job:
        assert job.wait() == 0, job.shown()
    assert batches(whole) == batches(tmp_path / "keys")
    theirs = weights(published, "other")
    for name, ours in weights(published, "whole").items():
        torch.testing.assert_close(ours, theirs[name], rtol=0, atol=1e-5)
    assert (result(published, "whole")["backend"], result(published, "other")["backend"]) == (
        "ddp",
        "horovod",
    )
    began = json.loads((published.root / "runs" / "whole" / "run.json").read_text())
    assert began["command"].startswith(
        "torchrun --standalone --nproc-per-node 2 -m -- training.train --config"
    )
    assert began["environment"]["backend"] == "ddp"
    assert "horovod" not in began["environment"]


def test_after_a_rank_was_killed_the_training_goes_on_to_the_same_bits(
    published: Published, whole: Path, tmp_path: Path
) -> None:
    command = training_command(published, "killed", *DDP, fault="kill@1@200")
    with Job(tmp_path / "first", command, backend="ddp") as job:
        assert job.wait() == 1, job.shown()
        assert job.orphans() == []
    command = training_command(published, "killed", *DDP, "--resume=auto")
    with Job(tmp_path / "then", command, backend="ddp") as job:
        assert job.wait() == 0, job.shown()
        assert "from step 11 on" in job.shown()
    for name in ("weights_sha256", "checkpoint_sha256"):
        assert result(published, "killed")[name] == result(published, "whole")[name]


@pytest.mark.thorough
def test_a_run_goes_on_over_the_other_back_end(published: Published, whole: Path, tmp_path: Path) -> None:
    command = training_command(published, "both", *DDP, "--stop-after", "7")
    with Job(tmp_path / "first", command, backend="ddp") as job:
        assert job.wait() == 0, job.shown()
    with Job(tmp_path / "then", training_command(published, "both", "--resume")) as job:
        assert job.wait() == 0, job.shown()
    assert result(published, "both")["backend"] == "horovod"
    theirs = weights(published, "whole")
    for name, ours in weights(published, "both").items():
        torch.testing.assert_close(ours, theirs[name], rtol=0, atol=1e-5)


@pytest.mark.thorough
def test_a_rank_that_fails_is_told_by_the_others(published: Published, tmp_path: Path) -> None:
    command = training_command(published, "failed", *DDP, fault="raise@1@200")
    with Job(tmp_path, command, backend="ddp") as job:
        assert job.wait() == 1, job.shown()
        assert job.orphans() == []
        assert "error: OwnError" in job.shown()
        assert "error: rank 0 stopped because another rank did, whose message stands above" in job.shown()


@pytest.mark.thorough
def test_a_signal_to_torchrun_lets_all_ranks_write_a_checkpoint(published: Published, tmp_path: Path) -> None:
    long = ("--set", "train.epochs=100000", "--set", "train.checkpoint_every=1000000")
    with Job(tmp_path, training_command(published, "long", *DDP, *long), backend="ddp") as job:
        job.wait_for(r"training: [1-9]")
        job.process.send_signal(signal.SIGTERM)
        assert job.wait() == 1, job.shown()
        assert job.orphans() == []
        assert "stopped by SIGTERM after step " in job.shown()
        assert "ended at once" not in job.shown()
    assert verify.main([str(published.root / "runs" / "long")]) == 0


def test_a_process_alone_needs_neither_torchrun_nor_horovod(published: Published, tmp_path: Path) -> None:
    arguments = ["--config", str(published.config), "--run", "alone", *DDP]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_HOROVOD, *arguments],
        env={"PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert main(["--config", str(published.config), "--run", "by-horovod"]) == 0
    for name in ("weights_sha256", "checkpoint_sha256"):
        assert result(published, "alone")[name] == result(published, "by-horovod")[name]


@pytest.mark.parametrize(
    ("backend", "environment", "message"),
    [
        (
            "ddp",
            {"HOROVOD_GLOO_RENDEZVOUS_ADDR": "::1"},
            r"does not run under horovodrun: start it by torchrun",
        ),
        ("horovod", {"WORLD_SIZE": "2", "RANK": "1"}, r"does not run under torchrun .* by horovodrun -np N"),
        (
            "ddp",
            {"WORLD_SIZE": "2", "RANK": "1"},
            r"not MASTER_ADDR: start train.backend = .ddp. by torchrun",
        ),
    ],
)
def test_the_launcher_of_the_other_back_end_is_refused(
    monkeypatch: pytest.MonkeyPatch, backend: str, environment: dict[str, str], message: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message):
        Communicator.start(backend)
