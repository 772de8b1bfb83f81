"""Training on two ranks over Horovod's ring, on a small published data set."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import training
from tests.training.devices import FOR_TWO
from tests.training.published import Published, publish
from tests.training.runs import EXACT, result, weights
from training.input.order import SplitOrder, row_groups_of
from training.privacy import key_file
from training.tracking import metrics
from training.train import main

REPOSITORY = Path(training.__file__).parents[1]
HOROVODRUN = Path(sys.executable).with_name("horovodrun")
LAUNCH = [str(HOROVODRUN), "-np", "2", "--gloo", "-H", "localhost:2"]

HIDDEN = (*EXACT, "--set", "method.kind=private", "--set", "method.epsilon=3")
DRAWN = (*HIDDEN, "--set", "method.sampling=poisson", "--set", "method.noise_multiplier=2.5")
ADVERSARIAL = ("--set", "method.kind=adversarial", "--set", "method.epsilon=0.5")
TRAIN = ((32, 32, 32), (32, 32, 13))
"""Rows of the row groups of the training split's shards, as `publish` makes them by default."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("published"))


def launch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **FOR_TWO, "PYTHONPATH": str(REPOSITORY), "HOROVOD_CYCLE_TIME": "1"}
    environment["PATH"] = f"{HOROVODRUN.parent}{os.pathsep}{environment['PATH']}"
    return subprocess.run(
        [*LAUNCH, sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def flags(published: Published, run: str, *more: str) -> list[str]:
    return ["--config", str(published.config), "--run", run, *more]


@pytest.fixture(scope="module")
def oversampled(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Publish the same with classes of different sizes, whose rows are taken up to four times in an epoch."""
    balance = 'policy = "oversample"\nmost = 4'
    return publish(tmp_path_factory.mktemp("oversampled"), chances=(0.7, 0.2, 0.1), balance=balance)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Publish a data set with damage in the second shard, in a row group that one of two streams reads alone."""
    made = publish(tmp_path_factory.mktemp("damaged"))
    order = SplitOrder(row_groups_of(TRAIN), 2, 2, made.load().manifest_root, 0).epoch(0)
    first, second = ({s.row_group for s in order.segments(stream)} for stream in (0, 1))
    alone = next(group for group in sorted(first ^ second) if group >= len(TRAIN[0]))
    shard = made.shard("train", 1)
    place = pq.ParquetFile(shard).metadata.row_group(alone - len(TRAIN[0])).column(3)
    content = bytearray(shard.read_bytes())
    start = place.dictionary_page_offset or place.data_page_offset
    content[start : start + 16] = b"\xff" * 16
    shard.write_bytes(content)
    return made


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Publish a single row, which leaves one of two ranks without any."""
    return publish(tmp_path_factory.mktemp("single"), train=((1,),), validation=((1,),), test=())


@pytest.fixture(scope="module")
def launched(
    published: Published,
    oversampled: Published,
    damaged: Published,
    single: Published,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """Train several times in one launch of two ranks; return the output."""
    runs = [
        flags(published, "whole"),
        flags(published, "again"),
        flags(published, "exact", *EXACT),
        flags(published, "moved", *EXACT, *ADVERSARIAL),
        flags(published, "halves", "--stop-after", "7"),
        flags(published, "greedy", "--set", "train.read_memory=10"),
        flags(oversampled, "balanced", *EXACT),
        flags(oversampled, "begun", *EXACT, "--stop-after", "5"),
        flags(single, "one"),
        flags(published, "hidden", *HIDDEN),
        flags(published, "drawn", *DRAWN),
        flags(damaged, "refused"),
    ]
    script = str(Path(__file__).with_name("several_trainings.py"))
    done = launch(tmp_path_factory.mktemp("launch"), script, json.dumps(runs))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_two_ranks_train_and_only_one_writes(published: Published, launched: str) -> None:
    for rank in (0, 1):
        assert f"rank {rank} run whole status 0" in launched
    found = result(published, "whole")
    assert (found["world_size"], found["steps"], found["samples_seen"]) == (2, 22, 346)
    # Of whole, again, exact, moved and hidden, each told by one rank.
    assert launched.count("epoch 1: every one of 173 rows read exactly once") == 5
    entries = metrics.read(published.root / "runs" / "whole")
    assert [e["step"] for e in entries if e["kind"] == "train"] == [4, 8, 11, 12, 16, 20, 22]


def test_a_rank_without_rows_takes_part(single: Published, launched: str) -> None:
    for rank in (0, 1):
        assert f"rank {rank} run one status 0" in launched
    assert (result(single, "one")["world_size"], result(single, "one")["samples_seen"]) == (2, 2)
    assert "note: 1 of the ranks have no rows" in launched


def test_the_same_world_gives_the_same_weights(published: Published, launched: str) -> None:
    assert result(published, "again")["weights_sha256"] == result(published, "whole")["weights_sha256"]


def test_two_ranks_learn_what_one_process_learns(published: Published, launched: str) -> None:
    assert main(flags(published, "alone", *EXACT)) == 0
    alone, together = weights(published, "alone"), weights(published, "exact")
    assert alone.keys() == together.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, rtol=1e-4, atol=1e-5)
    losses = [[e["loss"] for e in metrics.read(published.root / "runs" / run)] for run in ("alone", "exact")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize(("run", "method"), [("hidden", HIDDEN), ("drawn", DRAWN)])
def test_two_ranks_hide_rows_in_the_noise_of_one(
    published: Published, launched: str, monkeypatch: pytest.MonkeyPatch, run: str, method: tuple[str, ...]
) -> None:
    key = key_file.path_of(published.root / "runs" / run).read_bytes()
    monkeypatch.setattr(os, "urandom", lambda size: key[:size])
    assert main(flags(published, f"{run}-alone", *method)) == 0
    alone, together = weights(published, f"{run}-alone"), weights(published, run)
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, rtol=1e-4, atol=1e-5)
    privacy = result(published, run)["privacy"]
    assert privacy == result(published, f"{run}-alone")["privacy"]
    assert privacy["epsilon"] <= 3 * (1 + 1e-6)


def test_two_ranks_learn_under_attack_what_one_process_learns(published: Published, launched: str) -> None:
    """Of two ranks and one, each row starts from the same noise; a sign may differ where a gradient is all but 0."""
    assert main(flags(published, "moved-alone", *EXACT, *ADVERSARIAL)) == 0
    alone, together, plain = (weights(published, run) for run in ("moved-alone", "moved", "exact"))
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, rtol=1e-3, atol=1e-4)
    assert any(
        not torch.allclose(plain[name], tensor, rtol=1e-3, atol=1e-3) for name, tensor in alone.items()
    )


def test_a_refusal_on_one_rank_ends_all(launched: str) -> None:
    for rank in (0, 1):
        assert f"rank {rank} run greedy status 2" in launched


@pytest.mark.thorough  # test_killed.py resumes one that was killed
def test_a_run_resumed_in_mid_epoch_equals_the_whole(
    published: Published, launched: str, tmp_path: Path
) -> None:
    assert not (published.root / "runs" / "halves" / "summary.json").exists()
    done = launch(tmp_path, "-m", "training.train", *flags(published, "halves", "--resume"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "from step 7 on" in done.stderr + done.stdout
    assert result(published, "halves")["weights_sha256"] == result(published, "whole")["weights_sha256"]


def test_rows_that_are_taken_several_times_are_so_on_any_number_of_ranks(
    oversampled: Published, launched: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train = oversampled.load().splits["train"]
    assert sorted(train.balance.repeats.values())[0] == 1 < sorted(train.balance.repeats.values())[1]
    said = f"every one of 173 rows read exactly as often as the manifest says, {train.epoch_rows} in all"
    assert f"epoch 2: {said}" in launched
    assert result(oversampled, "balanced")["samples_seen"] == 2 * train.epoch_rows
    assert main(flags(oversampled, "begun", *EXACT, "--resume")) == 0
    shown = capsys.readouterr().err
    assert "from step 5 on" in shown
    assert f"epoch 1: {said}" in shown
    together, alone = weights(oversampled, "balanced"), weights(oversampled, "begun")
    for name, tensor in together.items():
        torch.testing.assert_close(alone[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_damaged_shard_is_refused_by_all_ranks(damaged: Published, launched: str) -> None:
    for rank in (0, 1):
        assert f"rank {rank} run refused status 1" in launched
    # Shards are verified in turn, this one by rank 1; both ranks name it.
    assert launched.count(f"{damaged.shard('train', 1).name} is damaged") == 2
    assert not (damaged.root / "runs" / "refused").exists()


@pytest.mark.thorough  # test_damage.py has another error of one rank
def test_an_error_of_one_rank_in_training_ends_all(damaged: Published, tmp_path: Path) -> None:
    """With two streams the damaged row group belongs to one rank; the other waits for its gradients."""
    streams = ["--set", "train.streams=2", "--verify", "off"]
    done = launch(tmp_path, "-m", "training.train", *flags(damaged, "broken", *streams))
    shown = done.stdout + done.stderr
    assert done.returncode != 0
    assert f"{damaged.shard('train', 1).name} cannot be read" in shown, shown
    assert not (damaged.root / "runs" / "broken" / "summary.json").exists()
