"""Whole trainings of silos and with local steps, on one rank and over Horovod's ring, from the files of a data set."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.integration.test_training import launch
from tests.training.published import Published, publish
from tests.training.runs import EXACT, result, weights
from training.checkpoints import store
from training.report import main as report
from training.tracking import metrics
from training.train import main

SHARDS = ((32, 32, 32), (32, 13), (20,), (9, 9))
FEDERATED = ("--set", "method.kind=federated", *EXACT)
ROUNDS = (*FEDERATED, "--set", "method.local_epochs=2", "--set", "train.epochs=4")
KRUM = (*FEDERATED, "--set", "method.combine=multi_krum", "--set", "method.hostile=1")
LOCAL = ("--set", "method.kind=local_sgd", "--set", "method.synchronise_every=4", *EXACT)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Publish silos of 96, 45, 20 and 18 rows: 6 steps an epoch, in batches of 16."""
    return publish(tmp_path_factory.mktemp("published"), train=SHARDS)


def flags(published: Published, run: str, *more: str) -> list[str]:
    return ["--config", str(published.config), "--run", run, *more]


@pytest.fixture(scope="module")
def rounds(published: Published) -> dict[str, Any]:
    assert main(flags(published, "rounds", *ROUNDS)) == 0
    return result(published, "rounds")


def test_every_row_is_read_once_an_epoch_and_judged_after_each_round(
    published: Published, rounds: dict[str, Any]
) -> None:
    assert (rounds["steps"], rounds["samples_seen"]) == (24, 4 * 179)
    entries = metrics.read(published.root / "runs" / "rounds")
    assert [entry["step"] for entry in entries if entry["kind"] == "validation"] == [12, 24]
    silos = [{"silo": n, "rows": rows, "left_out": 0} for n, rows in enumerate((96, 45, 20, 18))]
    assert rounds["federated"]["silos"] == silos
    assert rounds["federated"]["rounds"] == 2
    losses = [entry["loss"] for entry in entries if entry["kind"] == "train"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("steps", ["4", "9"])
def test_left_within_a_round_it_goes_on_with_the_same_bits(
    published: Published, rounds: dict[str, Any], steps: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = f"left-{steps}"
    assert main(flags(published, run, *ROUNDS, "--stop-after", steps)) == 0
    assert main(flags(published, run, *ROUNDS, "--resume")) == 0
    assert f"from step {steps} on" in capsys.readouterr().err
    assert result(published, run)["weights_sha256"] == rounds["weights_sha256"]
    saved = store.last_good(published.root / "runs" / run, print)
    assert saved is not None
    assert saved[1]["method"]["silos"] == {}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["method.combine=multi_krum", "method.hostile=1"], "needs at least 5 silos, and there are 4 silos"),
        (["method.combine=trimmed_mean", "method.hostile=2"], "needs at least 5 silos"),
        (["method.combine=trimmed_mean"], "needs the number of hostile silos"),
        (["method.hostile=1"], "hostile is for trimmed_mean and multi_krum"),
        (["method.clip=1.0"], "clip is for clipped_mean"),
        (["method.local_epochs=2", "train.epochs=3"], "train.epochs = 3 is no multiple"),
        (["train.gradients=overlapped"], "train.gradients"),
        (["train.gradient_compression=fp16"], "train.gradient_compression"),
        (["train.ema_decay=0.9"], "train.ema_decay"),
        (["method.silos=group"], "publish.by_group = true"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(
    published: Published, keys: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from common import command

    given = [part for key in keys for part in ("--set", key)]
    assert command.run(main, flags(published, "refused", *FEDERATED, *given)) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (published.root / "runs" / "refused").exists()


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Publish seven silos."""
    shards = tuple((size,) for size in (20, 33, 16, 25, 40, 17, 20))
    return publish(tmp_path_factory.mktemp("seven"), train=shards)


@pytest.fixture(scope="module")
def launched(published: Published, seven: Published, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Train several times in one launch of two ranks; return the output."""
    runs = [
        flags(published, "two", *ROUNDS),
        flags(seven, "krum", *KRUM),
        flags(seven, "left", *KRUM, "--stop-after", "2"),
        flags(published, "local", *LOCAL),
        flags(published, "local-left", *LOCAL, "--stop-after", "6"),
        flags(published, "local-left", *LOCAL, "--resume"),
    ]
    script = str(Path(__file__).parents[2] / "integration" / "several_trainings.py")
    done = launch(tmp_path_factory.mktemp("launch"), script, json.dumps(runs))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("status 0") == 2 * len(runs), done.stdout + done.stderr
    return done.stdout + done.stderr


def test_two_ranks_learn_what_one_learns(published: Published, rounds: dict[str, Any], launched: str) -> None:
    assert rounds["world_size"] == 1
    alone, together = weights(published, "rounds"), weights(published, "two")
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, rtol=1e-4, atol=1e-5)
    assert result(published, "two")["federated"] == rounds["federated"]


def test_what_two_ranks_began_one_goes_on_with(
    seven: Published, launched: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags(seven, "left", *KRUM, "--resume")) == 0
    assert "from step 2 on" in capsys.readouterr().err
    whole, left = weights(seven, "krum"), weights(seven, "left")
    for name, tensor in whole.items():
        torch.testing.assert_close(left[name], tensor, rtol=1e-4, atol=1e-5)
    found = result(seven, "left")["federated"]
    assert sum(one["left_out"] for one in found["silos"]) == found["rounds"] == 2


def test_local_steps_go_on_with_the_same_bits(published: Published, launched: str) -> None:
    """Left two steps after a synchronisation, with weights of their own on the two ranks."""
    assert result(published, "local-left")["weights_sha256"] == result(published, "local")["weights_sha256"]
    assert report(flags(published, "local")) == 0
    page = (published.root / "runs" / "local" / "report.html").read_text()
    assert "Their weights became their mean, weighted by rows, every 4 steps" in page


def test_the_report_names_the_silos_and_what_was_left_out(seven: Published, launched: str) -> None:
    assert report(flags(seven, "krum")) == 0
    page = (seven.root / "runs" / "krum" / "report.html").read_text()
    assert "Silos" in page
    assert "that they belong to." in page
    assert "that they belong to.." not in page
    assert "multi_krum" in page
