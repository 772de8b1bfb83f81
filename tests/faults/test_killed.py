"""A job that is killed as a whole and resumed ends as if nothing had happened."""

import random
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.faults.job import Job, batches, training_command
from tests.training.published import Published, publish
from training.tracking import metrics, summary

ROWS, BATCH, EPOCHS = 173, 16, 2
# Without dropout, and with Adam's epsilon above the rounding errors of gradients that are 0 in exact arithmetic.
EXACT = ("--set", "model.dropout=0.0", "--set", "optimizer.epsilon=1e-3", "--set", "train.log_every=1")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("published"))


def positions(seed: int, count: int) -> list[int]:
    """Return random positions of the training, in order, neither before its first checkpoint nor in its last step."""
    return sorted(random.Random(seed).sample(range(5 * BATCH, EPOCHS * ROWS - BATCH), count))


def train(folder: Path, published: Published, run: str, ranks: int, *arguments: str) -> None:
    with Job(folder, training_command(published, run, *arguments, keys=folder / "keys"), ranks=ranks) as job:
        assert job.wait() == 0, job.shown()


def train_until_killed(
    folder: Path, published: Published, run: str, ranks: int, position: int, *arguments: str
) -> None:
    command = training_command(published, run, *arguments, keys=folder / "keys", fault=f"job@0@{position}")
    with Job(folder, command, ranks=ranks) as job:
        assert job.wait() == -signal.SIGKILL, job.shown()
        assert (folder / f"job@0@{position}").read_text() == str(next(p for p in ends() if p >= position))
        assert job.orphans() == []
    assert not (published.root / "runs" / run / "summary.json").exists()


def ends() -> list[int]:
    """Return the positions at which global batches end."""
    one = [*range(BATCH, ROWS, BATCH), ROWS]
    return [epoch * ROWS + position for epoch in range(EPOCHS) for position in one]


def result(published: Published, run: str) -> dict[str, Any]:
    found: dict[str, Any] = summary.read(published.root / "runs" / run)["training"]
    return found


@pytest.fixture(scope="module")
def whole(published: Published, tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[str]]:
    """Return the global batches of an undisturbed training on two ranks, with dropout."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder, published, "whole", 2)
    found = batches(folder / "keys")
    assert sorted(found) == ends()
    for epoch in range(EPOCHS):
        rows = [key for end in ends() if epoch * ROWS < end <= (epoch + 1) * ROWS for key in found[end]]
        assert len(rows) == len(set(rows)) == ROWS
    return found


@pytest.mark.parametrize(
    ("seed", "times"), [(1, 1), *(pytest.param(seed, 2, marks=pytest.mark.thorough) for seed in (2, 3, 4))]
)
def test_resumed_on_as_many_ranks_it_ends_with_the_same_bits(
    published: Published, whole: dict[int, list[str]], tmp_path: Path, seed: int, times: int
) -> None:
    run = f"killed-{seed}"
    for number, position in enumerate(positions(seed, times)):
        resume = ["--resume"] if number else []
        train_until_killed(tmp_path / str(number), published, run, 2, position, *resume)
    train(tmp_path / "last", published, run, 2, "--resume")
    for name in ("weights_sha256", "checkpoint_sha256"):
        assert result(published, run)[name] == result(published, "whole")[name]
    assert batches(*(tmp_path / str(n) / "keys" for n in range(times)), tmp_path / "last" / "keys") == whole


@pytest.fixture(scope="module")
def losses(published: Published, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Return the losses of the steps of one process without dropout."""
    train(tmp_path_factory.mktemp("alone"), published, "alone", 1, *EXACT)
    return losses_of(published, "alone")


def losses_of(published: Published, run: str) -> list[float]:
    entries = [e for e in metrics.read(published.root / "runs" / run) if e["kind"] == "train"]
    assert [e["step"] for e in entries] == list(range(1, len(ends()) + 1))
    return [e["loss"] for e in entries]


@pytest.mark.parametrize(
    ("before", "after"),
    [(2, 3), *(pytest.param(*ranks, marks=pytest.mark.thorough) for ranks in ((2, 1), (1, 2)))],
)
def test_resumed_on_other_ranks_it_takes_the_same_batches(
    published: Published,
    whole: dict[int, list[str]],
    losses: list[float],
    tmp_path: Path,
    before: int,
    after: int,
) -> None:
    run = f"from-{before}-to-{after}"
    (position,) = positions(10 * before + after, 1)
    train_until_killed(tmp_path / "first", published, run, before, position, *EXACT)
    train(tmp_path / "then", published, run, after, "--resume", *EXACT)
    then = batches(tmp_path / "then" / "keys")
    assert min(then) <= position
    assert batches(tmp_path / "first" / "keys") | then == whole
    assert result(published, run)["world_size"] == after
    assert losses_of(published, run) == pytest.approx(losses, rel=1e-4)
